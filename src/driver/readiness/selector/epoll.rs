//! `epoll(7)`, edge-triggered.

// # Why this file has `unsafe`
// It makes the system calls.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Event, Interest};
use crate::driver::Notify;
use crate::driver::sys::EventFd;

/// The key of the event counter, which no file has.
const WAKE: u64 = u64::MAX;

/// Urgent data, which Miri does not know.
const URGENT: i32 = if cfg!(miri) { 0 } else { libc::EPOLLPRI };
/// The events that files are registered for: all, as an edge costs nothing unless it occurs.
const ALL: i32 = libc::EPOLLIN | URGENT | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;
const OVER: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

pub(in crate::driver::readiness) struct Selector {
    epoll: OwnedFd,
    wake: Arc<EventFd>,
    events: Vec<libc::epoll_event>,
    /// The kernel has waits with nanosecond timeouts (`epoll_pwait2(2)`, Linux 5.11).
    precise: bool,
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Selector {
    /// A registered file stays registered: an event is not lost while no operation waits.
    pub(in crate::driver::readiness) const PERSISTENT: bool = true;

    pub(in crate::driver::readiness) fn new(events: usize) -> io::Result<Self> {
        // SAFETY: passes no memory.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `epoll_create1` has just returned this fd, which nothing else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let wake = Arc::new(EventFd::new()?);
        let mut selector =
            Selector { epoll, wake, events: Vec::with_capacity(events), precise: !cfg!(miri) };
        let counter = selector.wake.as_raw_fd();
        selector.control(libc::EPOLL_CTL_ADD, counter, libc::EPOLLIN | libc::EPOLLET, WAKE)?;
        Ok(selector)
    }

    pub(in crate::driver::readiness) fn names(&self) -> Vec<&'static str> {
        vec!["epoll"]
    }

    pub(in crate::driver::readiness) fn notifier(&self) -> Arc<dyn Notify> {
        self.wake.clone()
    }

    fn control(&mut self, call: i32, fd: RawFd, events: i32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: key };
        // SAFETY: `event` is valid for reads.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), call, fd, &mut event) }).map(drop)
    }

    /// Has events of `fd` reported under `key`; returns the number of system calls.
    pub(in crate::driver::readiness) fn watch(
        &mut self,
        fd: RawFd,
        key: usize,
        _interest: Interest,
        _known: bool,
    ) -> io::Result<u64> {
        match self.control(libc::EPOLL_CTL_ADD, fd, ALL, key as u64) {
            // Registered before, when it left this context and came back.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, ALL, key as u64).map(|()| 2)
            }
            result => result.map(|()| 1),
        }
    }

    /// Ends reports of events of `fd`.
    pub(in crate::driver::readiness) fn forget(&mut self, fd: RawFd) {
        // Fails if the fd names another file by now.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Waits for events; [`event`](Self::event) returns them.
    pub(in crate::driver::readiness) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.events.clear();
        let (place, room) = (self.events.as_mut_ptr(), self.events.capacity() as i32);
        let epoll = self.epoll.as_raw_fd();
        let mut result = -1;
        let whole = timeout.is_none_or(|timeout| timeout.subsec_nanos() % 1_000_000 == 0);
        let mut tried = false;
        if self.precise && !whole {
            tried = true;
            let time = timespec(timeout.unwrap_or_default());
            // SAFETY: the vector has room for that many events; no signal mask is passed.
            result = unsafe {
                libc::syscall(libc::SYS_epoll_pwait2, epoll, place, room, &time, 0usize, 0usize)
            } as i32;
            if result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                // This kernel lacks it, or a sandbox denies it.
                self.precise = false;
                tried = false;
            }
        }
        if !tried {
            let millis = timeout.map_or(-1, millis);
            // SAFETY: the vector has room for that many events.
            result = unsafe { libc::epoll_wait(epoll, place, room, millis) };
        }
        match check(result) {
            // SAFETY: the kernel has written that many events, at most as many as there is room
            // for.
            Ok(count) => unsafe { self.events.set_len(count as usize) },
            // A signal came: the caller checks its conditions again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes all events, for a turn that does not ask the host.
    pub(in crate::driver::readiness) fn clear(&mut self) {
        self.events.clear();
    }

    pub(in crate::driver::readiness) fn count(&self) -> usize {
        self.events.len()
    }

    #[inline(always)]
    pub(in crate::driver::readiness) fn event(&self, index: usize) -> Option<Event> {
        let event = self.events[index];
        if event.u64 == WAKE {
            return None;
        }
        Some(Event {
            key: event.u64 as usize,
            readable: event.events & (READABLE | OVER) != 0,
            writable: event.events & (libc::EPOLLOUT as u32 | OVER) != 0,
            // A read stops before urgent data, so a short one does not show that the socket is
            // drained.
            over: event.events & (OVER | libc::EPOLLPRI as u32) != 0,
        })
    }
}

/// Converts to milliseconds, rounded up, so that a wait does not end early.
fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// The kernel's structure of newer calls, which has 64 bits on every processor.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

fn timespec(time: Duration) -> Timespec {
    // In seconds; the kernel refuses absurd values, and a turn may return early.
    const LONGEST: u64 = 365 * 24 * 3600;
    Timespec { seconds: time.as_secs().min(LONGEST) as i64, nanos: time.subsec_nanos().into() }
}
