//! The two directions of a relay: which of them go on when one ends, and how the relay ends.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::limits::RelayLimits;
use super::transfer::{Failure, discard, transfer};
use crate::driver::seams::{options, sockets};
use crate::op::{AsyncShutdown, Descriptor, is_cancelled};
use crate::os::AsFd;
use crate::task::{RaceOutput, race, yield_now};
use crate::time::{Elapsed, sleep};

/// How many times per time limit the pair is checked.
const CHECKS: u32 = 4;

/// How long a peer may acknowledge nothing when a relay ends with an error.
const LAST_LIMIT: Duration = Duration::from_secs(30);

/// The state of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All bytes were delivered, and the end after them.
    Ended,
    /// Its receiver takes no more.
    Failed(ErrorKind),
}

struct Direction<'a> {
    from: &'a Descriptor,
    to: &'a Descriptor,
    moved: Cell<u64>,
    state: Cell<State>,
}

impl<'a> Direction<'a> {
    fn new(from: &'a Descriptor, to: &'a Descriptor) -> Self {
        Direction { from, to, moved: Cell::new(0), state: Cell::new(State::Open) }
    }

    fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }
}

/// Two connections that a relay joins.
pub(super) struct Pair<'a> {
    there: Direction<'a>,
    back: Direction<'a>,
    /// The first error.
    error: RefCell<Option<io::Error>>,
    /// Both directions have ended.
    ended: Cell<bool>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(a: &'a Descriptor, b: &'a Descriptor) -> Self {
        let (there, back) = (Direction::new(a, b), Direction::new(b, a));
        Pair { there, back, error: RefCell::new(None), ended: Cell::new(false) }
    }

    /// Relays until the end.
    pub(super) async fn run(self, limits: RelayLimits) -> io::Result<(u64, u64)> {
        let copying = async {
            let (there, back) = (&self.there, &self.back);
            race(self.copy(there, back), self.copy(back, there)).await;
        };
        if let RaceOutput::Second(_, limit) = race(copying, self.watch(&limits)).await {
            return Err(Elapsed::new(limit).into());
        }
        if let Some(error) = self.error.take() {
            // Otherwise the relay itself has to end.
            if !is_cancelled(&error) && Elapsed::of(&error).is_none() {
                self.flush().await;
            }
            return Err(error);
        }
        self.ended.set(true);
        Ok((self.there.moved.get(), self.back.moved.get()))
    }

    /// Copies one direction. Returns when the relay has to end: the last direction has ended, or
    /// there is an error after which nothing more can be delivered.
    async fn copy(&self, own: &Direction<'_>, other: &Direction<'_>) {
        let result = transfer(own.from, own.to, &own.moved).await;
        if result.is_ok() && other.is_open() {
            // It may have ended in this turn, too, and is polled meanwhile.
            yield_now().await;
        }
        match result {
            // Where the socket itself cannot tell: a reset is reported once, here to the sends of
            // the other direction, and looks like an end.
            Ok(()) if is_reset(other.state.get()) => return,
            Ok(()) => match AsyncShutdown::new(own.to, Shutdown::Write).await {
                // Where the connection is gone, the other direction ends by itself.
                Err(error) if error.kind() != ErrorKind::NotConnected => return self.fail(error),
                _ => own.state.set(State::Ended),
            },
            Err(Failure::Receive(error)) => return self.fail(error),
            Err(Failure::Send(error)) => {
                own.state.set(State::Failed(error.kind()));
                self.fail(error);
                // What the receiver has sent is still delivered. To that end its peer must not
                // wait until its own bytes are taken.
                if other.is_open() && discard(own.from).await.is_err() {
                    return;
                }
            }
        }
        if other.is_open() {
            pending().await
        }
    }

    /// Stores the first error.
    fn fail(&self, error: io::Error) {
        self.error.borrow_mut().get_or_insert(error);
    }

    /// Waits until nothing has moved for too long; returns that limit.
    async fn watch(&self, limits: &RelayLimits) -> Duration {
        loop {
            let open = (self.there.is_open(), self.back.is_open());
            let limit = match open {
                (true, true) => limits.open,
                (false, _) => limits.after_first,
                (true, false) => limits.after_second,
            };
            // This is polled whenever the directions are, after them.
            let mut change = pin!(poll_fn(|_| {
                match open == (self.there.is_open(), self.back.is_open()) {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                }
            }));
            if limit == Duration::MAX {
                change.await;
                continue;
            }
            let mut seen = self.progress();
            let mut quiet = 0;
            while quiet < CHECKS {
                if race(change.as_mut(), sleep(limit / CHECKS)).await.is_first() {
                    break;
                }
                let now = self.progress();
                quiet = if now == seen { quiet + 1 } else { 0 };
                seen = now;
            }
            if quiet == CHECKS {
                return limit;
            }
        }
    }

    /// Returns a value that changes when anything moves.
    fn progress(&self) -> [u64; 4] {
        let queued = |to: &Descriptor| u64::from(sockets::send_queue_len(to.as_fd()));
        let (there, back) = (&self.there, &self.back);
        [there.moved.get(), back.moved.get(), queued(there.to), queued(back.to)]
    }

    /// Waits until the peers have acknowledged what was sent to them, as a reset would discard it;
    /// or until they acknowledge nothing for a while.
    async fn flush(&self) {
        let mut left = self.unacknowledged();
        let (mut pause, mut waited) = (Duration::from_millis(1), Duration::ZERO);
        let acknowledged = async {
            while left != [0, 0] && waited < LAST_LIMIT {
                sleep(pause).await;
                waited += pause;
                let now = self.unacknowledged();
                if now != left {
                    (left, waited) = (now, Duration::ZERO);
                }
                pause = (pause * 2).min(Duration::from_millis(64));
            }
        };
        let discarding = async {
            race(discard_all(self.there.from), discard_all(self.back.from)).await;
        };
        race(acknowledged, discarding).await;
    }

    fn unacknowledged(&self) -> [u32; 2] {
        [&self.there, &self.back].map(|direction| sockets::unacknowledged(direction.to.as_fd()))
    }
}

/// Discards what `from` sends, and does not end.
async fn discard_all(from: &Descriptor) {
    let _ = discard(from).await;
    pending().await
}

/// Returns `true` if the connection to the receiver of a direction was lost before the peer had
/// ended its side: after that end, the kernel reports a broken pipe.
fn is_reset(state: State) -> bool {
    matches!(state, State::Failed(kind) if kind != ErrorKind::BrokenPipe)
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        if !self.ended.get() {
            // Neither peer may take what it has got for the whole.
            for socket in [self.there.from, self.back.from] {
                let _ = options::set_linger(socket.as_fd(), Some(Duration::ZERO));
            }
        }
    }
}
