//! Waiting for a future on a plain thread.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::runtime::Runtime;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks the thread until `future` is done.
///
/// # Panics
/// On a thread that runs a context: its other tasks would wait, too, perhaps for each other.
#[track_caller]
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    assert!(
        !Runtime::is_any(),
        "this would block the thread of a running IoContext: `.await` instead"
    );
    park_until(future)
}

/// Parks the thread until `future` is done, also on a thread that runs a context; for waits that do
/// not depend on that context.
pub(crate) fn park_until<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // Returns at once if `unpark` was called since the poll.
        thread::park();
    }
}
