//! Waiting until a file is ready.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, ended, io_result};
use crate::op::source::Source;
use crate::os;

/// The events that an [`AsyncPoll`] waits for.
///
/// # Examples
/// ```
/// use corio::op::Interest;
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::READABLE));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

/// The events that an [`AsyncPoll`] reports.
///
/// # Examples
/// ```
/// use corio::op::{AsyncPoll, Interest, Readiness};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = std::os::unix::net::UnixStream::pair()?;
/// let ready = AsyncPoll::new(&a, Interest::WRITABLE).await?;
/// assert!(ready.contains(Readiness::WRITABLE) && !ready.contains(Readiness::HANG_UP));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness(u32);

/// Constants and methods of a set of `poll(2)` events.
macro_rules! events {
    ($name:ident: $($(#[$doc:meta])* $event:ident = $bit:ident),+) => {
        impl $name {
            $($(#[$doc])* pub const $event: $name = $name(os::$bit as u32);)+

            /// Returns `true` if every event of `other` is in this set.
            pub fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Returns the bits of `poll(2)`.
            pub fn bits(self) -> u32 {
                self.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }
    };
}

events! {
    Interest:
    /// There is something to read, or the peer has ended its side (`POLLIN`).
    READABLE = POLLIN,
    /// There is room to write (`POLLOUT`).
    WRITABLE = POLLOUT,
    /// There is urgent data (`POLLPRI`).
    PRIORITY = POLLPRI
}

events! {
    Readiness:
    /// There is something to read, or the peer has ended its side (`POLLIN`).
    READABLE = POLLIN,
    /// There is room to write (`POLLOUT`).
    WRITABLE = POLLOUT,
    /// There is urgent data (`POLLPRI`).
    PRIORITY = POLLPRI,
    /// An error is pending; reported without being asked for (`POLLERR`).
    ERROR = POLLERR,
    /// Both sides have ended; reported without being asked for (`POLLHUP`).
    HANG_UP = POLLHUP
}

/// Waits until a file is ready. [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html).
///
/// May be dropped in flight under every [policy](crate::DropPolicy): as it lends no memory, it is
/// cancelled at once.
///
/// For files that other code reads and writes; the operations of this crate need no such step. A
/// handle whose receive stream has received bytes ahead is readable.
///
/// # Examples
/// ```
/// use corio::op::{AsyncPoll, Interest, Readiness};
/// use std::os::unix::net::UnixStream;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, _b) = UnixStream::pair()?;
/// let ready = AsyncPoll::new(&a, Interest::READABLE | Interest::WRITABLE).await?;
/// assert!(ready.contains(Readiness::WRITABLE) && !ready.contains(Readiness::READABLE));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_POLL_ADD")]
pub type AsyncPoll<'a> = Op<Poll<'a>>;

/// The operation of [`AsyncPoll`].
#[derive(Debug)]
pub struct Poll<'a> {
    source: Source<'a>,
    interest: Interest,
}

// SAFETY: 1. There are no pointers. 2. `source` is held. 3. A held source names its file without
// its borrow. 4. The result is a set of events.
unsafe impl Operation for Poll<'_> {
    type Output = io::Result<Readiness>;
    const CODE: OpCode = OpCode::Poll;
    const MAY_BE_DROPPED: bool = true;

    fn prepare(&mut self) -> ControlFlow<i32> {
        match self.source.hold_to_receive()? {
            Some(handle)
                if self.interest.contains(Interest::READABLE)
                    && handle.ahead().receive(true, <[u8]>::len).is_some() =>
            {
                ended(i32::from(os::POLLIN))
            }
            _ => ControlFlow::Continue(()),
        }
    }
    fn request(&mut self) -> Request {
        Request::Poll { fd: self.source.target(), events: self.interest.0 }
    }
    fn finish(self, result: i32) -> Self::Output {
        // The ring adds an event (`POLLRDHUP`) that `poll(2)` reports only if asked for.
        let reported = self.interest.0 | (os::POLLERR | os::POLLHUP) as u32;
        io_result(result).map(|events| Readiness(events as u32 & reported))
    }
}

impl<'a> Op<Poll<'a>> {
    /// Waits until `source` is ready for any event of `interest`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, interest: Interest) -> Self {
        Op::of(Poll { source: source.into(), interest })
    }
}
