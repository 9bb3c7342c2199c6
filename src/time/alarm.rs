//! A timer to poll, shared by sleeps and timeouts; it sets its deadline at its first poll.

// # Why this file has `unsafe`
// Arming links the timer into the runtime's timers by address.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::runtime::Runtime;
use crate::runtime::timers::{Timer, TimerState};

/// A [`Timer`] that can be polled.
pub(crate) struct Alarm(Timer);

impl Alarm {
    pub(crate) const fn new() -> Self {
        Alarm(Timer::new())
    }

    /// Ready once the deadline has passed, which `deadline` computes from the time of the first
    /// poll, both in nanoseconds since the runtime's origin. Never ready at the first poll.
    #[inline]
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        runtime: &Runtime,
        cx: &mut Context<'_>,
        deadline: impl FnOnce(u64) -> u64,
    ) -> Poll<()> {
        let timer = &self.into_ref().get_ref().0;
        match timer.state() {
            TimerState::Fired => Poll::Ready(()),
            TimerState::Armed => {
                timer.set_waker(cx.waker());
                Poll::Pending
            }
            TimerState::Idle => {
                // SAFETY: pinned with `self` and not armed; its destructor disarms it.
                unsafe { timer.arm(runtime, deadline(runtime.now()), cx.waker()) };
                Poll::Pending
            }
        }
    }

    /// Like [`poll`](Self::poll), for a periodic timer: when ready, the next period has begun.
    pub(crate) fn poll_again(
        self: Pin<&mut Self>,
        runtime: &Runtime,
        cx: &mut Context<'_>,
        deadline: impl FnOnce(u64) -> u64,
    ) -> Poll<()> {
        let timer = &self.into_ref().get_ref().0;
        let state = timer.state();
        if state == TimerState::Armed {
            timer.set_waker(cx.waker());
            return Poll::Pending;
        }
        // SAFETY: pinned with `self` and not armed; its destructor disarms it.
        unsafe { timer.arm(runtime, deadline(runtime.now()), cx.waker()) };
        if state == TimerState::Fired { Poll::Ready(()) } else { Poll::Pending }
    }
}
