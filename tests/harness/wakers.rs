//! Wakers that run code when they are cloned.

// # Why this file has `unsafe`
// It makes such a waker by hand.

use std::cell::Cell;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

thread_local! {
    /// What the next clone of a [`hooked`] waker does.
    static CLONING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    pub(crate) static HOOKED_CLONES: Cell<usize> = const { Cell::new(0) };
    pub(crate) static HOOKED_WAKES: Cell<usize> = const { Cell::new(0) };
}

/// A waker of this thread that runs `hook` when it is first cloned, and counts clones and wakes.
pub(crate) fn hooked(hook: impl FnOnce() + 'static) -> Waker {
    fn clone(data: *const ()) -> RawWaker {
        HOOKED_CLONES.set(HOOKED_CLONES.get() + 1);
        if let Some(hook) = CLONING.take() {
            hook();
        }
        RawWaker::new(data, &HOOKED)
    }
    fn wake(data: *const ()) {
        wake_by_ref(data);
        drop(data);
    }
    fn wake_by_ref(_: *const ()) {
        HOOKED_WAKES.set(HOOKED_WAKES.get() + 1);
    }
    fn drop(_: *const ()) {
        HOOKED_CLONES.set(HOOKED_CLONES.get() - 1);
    }
    static HOOKED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);
    CLONING.set(Some(Box::new(hook)));
    HOOKED_CLONES.set(1);
    HOOKED_WAKES.set(0);
    // SAFETY: the functions touch no data, and what they count is each thread's own.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &HOOKED)) }
}

/// Polls `future` with a waker whose clone runs `event`, which the future waits for and must not
/// miss.
pub(crate) fn end_by_cloning<F: Future>(future: F, event: impl FnOnce() + 'static) -> F::Output {
    let mut future = Box::pin(future);
    let waker = hooked(event);
    let mut cx = Context::from_waker(&waker);
    let mut polled = future.as_mut().poll(&mut cx);
    assert!(CLONING.take().is_none(), "the waker was not cloned");
    if polled.is_pending() {
        assert_ne!(HOOKED_WAKES.get(), 0, "no task is woken");
        polled = future.as_mut().poll(&mut cx);
    }
    drop((future, waker));
    assert_eq!(HOOKED_CLONES.get(), 0);
    let Poll::Ready(output) = polled else { panic!("woken, it has not ended") };
    output
}
