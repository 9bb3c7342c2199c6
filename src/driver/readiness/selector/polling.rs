//! The `polling` crate: kqueue on macOS and the BSDs, AFD on Windows.

// # Why this file has `unsafe`
// The crate requires its user to remove files before they are closed.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use polling::{Event as RawEvent, Events, PollMode, Poller};

use super::{Event, Interest};
use crate::driver::Notify;
use crate::os::{self, RawFd};

struct Waker(Arc<Poller>);

impl Notify for Waker {
    fn notify(&self) {
        // Fails only if the system is out of resources; there is no other way to notify.
        let _ = self.0.notify();
    }
}

pub(in crate::driver::readiness) struct Selector {
    poller: Arc<Poller>,
    events: Events,
    list: Vec<RawEvent>,
}

fn raw_event(key: usize, interest: Interest) -> RawEvent {
    let other = interest.other;
    RawEvent::new(key, interest.readable || other, interest.writable || other)
}

impl Selector {
    /// An event is reported once for each call of `watch`.
    pub(in crate::driver::readiness) const PERSISTENT: bool = false;

    pub(in crate::driver::readiness) fn new(events: usize) -> io::Result<Self> {
        let room = NonZeroUsize::new(events).unwrap_or(NonZeroUsize::MIN);
        Ok(Selector {
            poller: Arc::new(Poller::new()?),
            events: Events::with_capacity(room),
            list: Vec::with_capacity(events),
        })
    }

    pub(in crate::driver::readiness) fn names(&self) -> Vec<&'static str> {
        vec![if cfg!(target_os = "linux") {
            "epoll"
        } else if cfg!(windows) {
            "AFD"
        } else {
            "kqueue"
        }]
    }

    pub(in crate::driver::readiness) fn notifier(&self) -> Arc<dyn Notify> {
        Arc::new(Waker(self.poller.clone()))
    }

    /// Has the next event of `fd` reported under `key`; returns the number of system calls.
    pub(in crate::driver::readiness) fn watch(
        &mut self,
        fd: RawFd,
        key: usize,
        interest: Interest,
        known: bool,
    ) -> io::Result<u64> {
        let event = raw_event(key, interest);
        // SAFETY: an operation, or the caller, keeps it open during this call.
        let file = unsafe { os::lend(fd) };
        if known {
            match self.poller.modify_with_mode(file, event, PollMode::Oneshot) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result.map(|()| 1),
            }
        }
        // SAFETY: `forget` removes it before this driver closes it; the system itself removes one
        // that is closed elsewhere, and the table detects its successor by the identity.
        match unsafe { self.poller.add_with_mode(os::source(fd), event, PollMode::Oneshot) } {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.poller.modify_with_mode(file, event, PollMode::Oneshot).map(|()| 2)
            }
            result => result.map(|()| 1),
        }
    }

    /// Ends reports of events of `fd`.
    pub(in crate::driver::readiness) fn forget(&mut self, fd: RawFd) {
        // SAFETY: the caller keeps it open during this call.
        let _ = self.poller.delete(unsafe { os::lend(fd) });
    }

    /// Waits for events; [`event`](Self::event) returns them.
    pub(in crate::driver::readiness) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        self.list.clear();
        match self.poller.wait(&mut self.events, timeout) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.list.extend(self.events.iter());
        Ok(())
    }

    /// Removes all events, for a turn that does not ask the host.
    pub(in crate::driver::readiness) fn clear(&mut self) {
        self.list.clear();
    }

    pub(in crate::driver::readiness) fn count(&self) -> usize {
        self.list.len()
    }

    pub(in crate::driver::readiness) fn event(&self, index: usize) -> Option<Event> {
        let event = self.list[index];
        // One-shot: an operation tries again before it waits again, so that no event is missed.
        Some(Event {
            key: event.key,
            readable: event.readable,
            writable: event.writable,
            over: true,
        })
    }
}
