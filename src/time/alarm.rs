//! One timer with its deadline set at the first poll: what sleeps and timeouts share.
//!
//! # Why this file has `unsafe`
//! Arming links the timer into the runtime's heap by address.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::runtime::Runtime;
use crate::runtime::timers::{Timer, TimerState};

/// A [`Timer`] as something to poll.
pub(crate) struct Alarm(Timer);

impl Alarm {
    pub(crate) const fn new() -> Self {
        Alarm(Timer::new())
    }

    /// Ready once the deadline has passed, which `deadline` computes from the time of the first
    /// poll. Never ready at the first poll.
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

    /// The same for what comes again and again: once ready, it counts from anew.
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
        // SAFETY: as in `poll`.
        unsafe { timer.arm(runtime, deadline(runtime.now()), cx.waker()) };
        if state == TimerState::Fired { Poll::Ready(()) } else { Poll::Pending }
    }
}
