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
/// Within a running context: its other tasks would wait, too, perhaps for each other.
#[track_caller]
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    assert!(
        !Runtime::is_any(),
        "this would block the thread of a running IoContext: `.await` instead"
    );
    park_until(future)
}

/// The same where nothing that the context does is waited for.
pub(crate) fn park_until<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        // A wake that came meanwhile is remembered.
        thread::park();
    }
}
