//! A handle by which other threads reach a context.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::runtime::remote::Remote;

/// A handle to a context that works on any thread; cheap to clone.
///
/// It stops the context ([`stop`](Self::stop)), starts tasks on it ([`spawn`](Self::spawn)) and
/// sends it messages ([`send_message`](Self::send_message)). It may outlive its context: after that
/// `stop` does nothing, a spawned task counts as cancelled, and sending fails.
///
/// # Examples
/// ```
/// let mut context = corio::IoContext::new(8)?;
/// let handle = context.handle();
/// std::thread::spawn(move || handle.stop());
/// context.run(|_| {})?; // returns when the other thread has called `stop`
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) remote: Arc<Remote>,
}

impl Handle {
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        Handle { remote }
    }

    /// Makes the context's current [`run`](super::IoContext::run) return, or else its next one.
    /// Wakes the context if it sleeps.
    ///
    /// # Examples
    /// See [`Handle`].
    #[doc(alias = "shutdown")]
    pub fn stop(&self) {
        self.remote.stop();
    }

    /// Returns `true` if the context is being run at this moment.
    ///
    /// # Examples
    /// ```
    /// let context = corio::IoContext::new(8)?;
    /// assert!(!context.handle().is_running());
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn is_running(&self) -> bool {
        self.remote.is_running()
    }
}

// A handle has no state of its own, and what it leads to is locked, or changed in one step.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("running", &self.is_running()).finish()
    }
}
