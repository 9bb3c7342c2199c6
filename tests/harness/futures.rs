//! Drop counters, single polls, and events between threads and tasks.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use corio::IoContext;
use corio::op::AsyncNop;

/// Counts how often it was dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Rc<Cell<u32>>);

/// A value whose drop [`Drops`] counts.
pub(crate) struct Counted(Rc<Cell<u32>>);

impl Drops {
    pub(crate) fn one(&self) -> Counted {
        Counted(self.0.clone())
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.get()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Calls a closure when dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls `future` once, with the task's own waker.
pub(crate) async fn poll_now<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Polls `future`, which must not be done yet, within a running context but outside of any task.
pub(crate) fn poll_outside_of_tasks<F: Future + ?Sized>(
    context: &mut IoContext,
    future: Pin<&mut F>,
) {
    let handle = context.handle();
    let mut future = Some(future);
    drop(context.spawn(AsyncNop::new()));
    let tick = |_: &IoContext| {
        if let Some(future) = future.take() {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(future.poll(&mut cx).is_pending());
            handle.stop();
        }
    };
    context.run(tick).unwrap();
}

/// Returns the current task's waker.
pub(crate) async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// An event that any thread can signal and one task can wait for.
#[derive(Clone, Default)]
pub(crate) struct Event(Arc<Mutex<(bool, Option<Waker>)>>);

impl Event {
    pub(crate) fn signal(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        let waker = state.1.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
