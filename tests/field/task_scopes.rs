//! The ends of tasks, and what foreign code may do there.

// # Why this file has `unsafe`
// It makes a waker whose destructor panics.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use corio::net::UnixStream;

use crate::harness::{Case, Outcome};

every_driver! { cases: a_body_that_was_dropped_is_not_polled_again }

/// The next destructor of a [`panicking`] waker panics.
static ARMED: AtomicBool = AtomicBool::new(false);

fn panicking() -> Waker {
    fn raw() -> RawWaker {
        static VTABLE: RawWakerVTable = RawWakerVTable::new(|_| raw(), drop_it, |_| (), drop_it);
        RawWaker::new(std::ptr::null(), &VTABLE)
    }
    fn drop_it(_: *const ()) {
        assert!(!ARMED.swap(false, Ordering::Relaxed), "the waker's destructor panics");
    }
    // SAFETY: the functions use no data.
    unsafe { Waker::from_raw(raw()) }
}

/// Leaves an operation in flight, then a foreign waker in its context, then ends.
struct Body {
    polls: Rc<Cell<u32>>,
    dropped: Rc<Cell<bool>>,
    waker: Rc<Cell<Option<Waker>>>,
}

impl Future for Body {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        assert!(!self.dropped.get(), "polled after its end");
        self.polls.set(self.polls.get() + 1);
        match self.polls.get() {
            1 => {
                // A leaked operation keeps the task's scope from draining.
                let (a, b) = UnixStream::pair().expect("a pair");
                let a: &'static UnixStream = Box::leak(Box::new(a));
                std::mem::forget(b);
                let mut receive = Box::pin(a.recv(vec![0; 8]));
                assert!(receive.as_mut().poll(cx).is_pending());
                std::mem::forget(receive);
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            2 => {
                cx.waker().wake_by_ref();
                *cx = Context::from_waker(Box::leak(Box::new(panicking())));
                Poll::Pending
            }
            _ => {
                ARMED.store(true, Ordering::Relaxed);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        assert!(!self.dropped.replace(true), "dropped twice");
    }
}

fn a_body_that_was_dropped_is_not_polled_again(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let body = Body { polls: Rc::default(), dropped: Rc::default(), waker: Rc::default() };
        let (polls, dropped, waker) =
            (body.polls.clone(), body.dropped.clone(), body.waker.clone());
        let task = context.spawn(body);
        context.poll_once(Some(Duration::ZERO))?;
        task.cancel();
        let waker = waker.take().expect("the task's waker");
        for _ in 0..4 {
            let turn = AssertUnwindSafe(|| context.poll_once(Some(Duration::ZERO)));
            assert!(catch_unwind(turn).is_ok(), "the loop panicked");
            waker.wake_by_ref();
        }
        assert!(task.is_finished() && dropped.get());
        assert!(polls.get() <= 3, "{} polls", polls.get());
        Ok(())
    })
}
