//! A limit on how many messages a receiver takes in a row before other tasks run.

use std::task::Context;

/// How many messages a receiver takes in a row before it yields.
const LIMIT: u32 = 128;

/// Counts the messages that a receiver has taken since it last waited or yielded.
#[derive(Default)]
pub(super) struct Streak(u32);

impl Streak {
    /// Returns `true` if the receiver has to yield. The task was woken then, and the count is zero.
    #[inline]
    pub(super) fn must_yield(&mut self, cx: &mut Context<'_>) -> bool {
        if self.0 < LIMIT {
            return false;
        }
        self.0 = 0;
        cx.waker().wake_by_ref();
        true
    }

    /// Counts a message.
    #[inline]
    pub(super) fn count(&mut self) {
        self.0 += 1;
    }

    /// Ends the streak, as the receiver waits.
    #[inline]
    pub(super) fn end(&mut self) {
        self.0 = 0;
    }
}
