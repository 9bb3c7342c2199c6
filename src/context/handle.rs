//! What other threads can do with a context.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::runtime::remote::Remote;
use crate::task::{RemoteTask, spawn_remotely};

/// Reaches a context from any thread; cheap to clone. It may outlive its context, and does
/// nothing then.
///
/// # Examples
/// ```
/// let mut context = corio::IoContext::new(8)?;
/// let handle = context.handle();
/// std::thread::spawn(move || handle.stop());
/// context.run(|_| {})?; // returns when the other thread has said so
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    remote: Arc<Remote>,
}

impl Handle {
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        Handle { remote }
    }

    /// Asks the context's current or else its next [`run`](super::IoContext::run) to return, and
    /// wakes it if it sleeps.
    pub fn stop(&self) {
        self.remote.stop();
    }

    /// Starts a task on the context. `start` is called on its thread, so that the task need not be
    /// `Send`: only `start` and the output are. Works from any thread, also before the context runs.
    ///
    /// If the context is gone, or ends before the task does, the task counts as cancelled.
    ///
    /// # Examples
    /// See [`RemoteTask`].
    #[track_caller]
    pub fn spawn<F, Fut>(&self, start: F) -> RemoteTask<Fut::Output>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        spawn_remotely(&self.remote, start, Location::caller())
    }

    /// Whether the context is being run at this moment.
    pub fn is_running(&self) -> bool {
        self.remote.is_running()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("running", &self.is_running()).finish()
    }
}
