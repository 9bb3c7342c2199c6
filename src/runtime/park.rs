//! Blocking a plain thread until a future is ready.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::Runtime;

/// A waker that unparks a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Parks the thread until `future` is ready, and returns its output.
///
/// # Panics
/// Within a running context: its other tasks would be blocked too, which might be a deadlock.
#[track_caller]
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    assert!(
        !Runtime::is_any(),
        "this would block the thread of a running IoContext: `.await` instead"
    );
    park_until(future)
}

/// Does the same without the check, for futures that wait for nothing that this thread's context
/// does.
pub(crate) fn park_until<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // Returns at once if the thread was unparked since the poll.
        thread::park();
    }
}
