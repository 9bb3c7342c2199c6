//! The fd inside a handle, and the count of operations that hold it.

use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::SockRef;

use super::ahead::Ahead;
use super::order::Order;
use crate::driver::seams::options;
use crate::driver::{Driver, Ending, Target};
use crate::os::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use crate::runtime::Runtime;

/// The fd inside a handle, and the number of operations that hold it.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `None` only while being dropped.
    fd: Option<OwnedFd>,
    id: u64,
    /// As wide as an address, so that no number of leaked operations can wrap it.
    holds: Cell<usize>,
    /// A socket or a pipe that was put into non-blocking mode.
    plain: bool,
    /// As in [`Target::nonblocking`]: it is still in that mode, as no other code has the fd.
    nonblocking: Cell<bool>,
    /// Code outside of this crate has, or had, the fd, and may have set options.
    exposed: Cell<bool>,
    buffered: bool,
    /// As in [`Target::eager`].
    eager: Cell<bool>,
    ahead: Ahead,
    order: Order,
}

// No foreign code runs while a part is changed: a panic between two calls leaves a handle whole.
impl UnwindSafe for Descriptor {}
impl RefUnwindSafe for Descriptor {}

/// Returns a number that no other descriptor of this process has or had.
fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Descriptor {
    /// Takes over an fd of any kind.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let descriptor = Self::with_mode(fd, false);
        descriptor.set_exposed();
        descriptor
    }

    /// Takes over an open file; `buffered` as in [`Target::buffered`].
    pub(crate) fn file(fd: OwnedFd, buffered: bool) -> Self {
        let mut descriptor = Self::with_mode(fd, false);
        descriptor.buffered = buffered;
        descriptor
    }

    /// Takes over a socket that this crate has made, and puts it into non-blocking mode.
    pub(crate) fn socket(fd: OwnedFd) -> Self {
        let nonblocking = SockRef::from(&fd).set_nonblocking(true).is_ok();
        Self::with_mode(fd, nonblocking)
    }

    /// Takes over a socket from elsewhere, and puts it into non-blocking mode.
    pub(crate) fn foreign_socket(fd: OwnedFd) -> Self {
        let descriptor = Self::socket(fd);
        descriptor.set_exposed();
        descriptor
    }

    /// Takes over a socket that is in non-blocking mode already.
    #[inline(always)]
    pub(crate) fn nonblocking_socket(fd: OwnedFd) -> Self {
        Self::with_mode(fd, true)
    }

    /// Takes over one end of a pipe, in non-blocking mode. Its close waits for nothing.
    #[cfg(target_os = "linux")]
    pub(crate) fn pipe(fd: OwnedFd) -> Self {
        Self::with_mode(fd, true)
    }

    #[inline(always)]
    fn with_mode(fd: OwnedFd, nonblocking: bool) -> Self {
        let (id, holds) = (fresh_id(), Cell::new(0));
        let eager = Cell::new(false);
        let exposed = Cell::new(false);
        Descriptor {
            fd: Some(fd),
            id,
            holds,
            plain: nonblocking,
            nonblocking: Cell::new(nonblocking),
            exposed,
            buffered: false,
            eager,
            ahead: Ahead::default(),
            order: Order::default(),
        }
    }

    /// Notes that code outside of this crate may have set options.
    #[inline(always)]
    pub(crate) fn set_exposed(&self) {
        self.exposed.set(true);
    }

    /// Returns `true` if code outside of this crate may have set options.
    #[inline(always)]
    pub(crate) fn is_exposed(&self) -> bool {
        self.exposed.get()
    }

    /// Notes that code outside of this crate is given the fd, and may change its mode.
    #[inline(always)]
    pub(crate) fn hand_out(&self) {
        self.exposed.set(true);
        self.nonblocking.set(false);
    }

    /// Returns how long the close may take, if that is known.
    pub(super) fn ending(&self) -> Ending {
        match self.plain && !self.exposed.get() {
            true => Ending::AtOnce,
            false => Ending::Unknown,
        }
    }

    /// Returns the target of a request; `slot` as in [`Target::slot`].
    #[inline(always)]
    pub(super) fn target(&self, slot: i32) -> Target {
        let &Descriptor { id, buffered, .. } = self;
        let nonblocking = self.nonblocking.get();
        // An inline call must not overtake what another operation has queued.
        let eager = self.eager.get() && self.holds.get() == 1;
        Target { fd: self.raw(), slot, id, nonblocking, buffered, eager }
    }

    /// Counts one more operation that holds this fd, and returns the target of its request.
    #[inline(always)]
    pub(super) fn hold(&self) -> Target {
        self.holds.set(self.holds.get() + 1);
        self.target(-1)
    }

    /// Counts one operation less.
    #[inline(always)]
    pub(super) fn release(&self) {
        self.holds.set(self.holds.get() - 1);
    }

    /// Stores whether the last receive left more in the socket.
    #[inline(always)]
    pub(super) fn set_eager(&self, more: bool) {
        self.eager.set(more);
    }

    /// Returns what receive streams of this handle have received.
    #[inline(always)]
    pub(super) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// Returns the order of the whole transfers on this handle.
    #[inline(always)]
    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> RawFd {
        match &self.fd {
            Some(fd) => fd.as_raw_fd(),
            None => -1,
        }
    }

    /// Gives the fd up, which the system has closed.
    pub(super) fn forget_fd(mut self) {
        let _ = self.fd.take().map(IntoRawFd::into_raw_fd);
    }

    /// Gives the fd away. Fails if a leaked operation still holds it; the fd is then never closed.
    pub(crate) fn into_fd(mut self) -> Result<OwnedFd, LeakedOperation> {
        match self.fd.take() {
            Some(fd) if self.holds.get() == 0 => {
                forget(&fd);
                Ok(fd)
            }
            Some(fd) => {
                let _ = fd.into_raw_fd();
                Err(LeakedOperation)
            }
            None => unreachable!("only `drop` and this take the fd"),
        }
    }
}

impl Descriptor {
    /// Makes the fd that of another handle. Fails as [`into_fd`](Self::into_fd) does.
    pub(crate) fn transfer(self) -> Result<Descriptor, LeakedOperation> {
        let (plain, buffered) = (self.plain, self.buffered);
        let (exposed, nonblocking) = (self.exposed.clone(), self.nonblocking.clone());
        let mut descriptor = Self::with_mode(self.into_fd()?, plain);
        (descriptor.exposed, descriptor.nonblocking) = (exposed, nonblocking);
        descriptor.buffered = buffered;
        Ok(descriptor)
    }
}

/// A duplicate of another type's fd, for one operation.
#[derive(Debug)]
pub(super) struct Duplicate {
    /// `None` only while being dropped.
    fd: Option<OwnedFd>,
    id: u64,
}

impl Duplicate {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Duplicate { fd: Some(fd), id: fresh_id() }
    }

    pub(super) fn target(&self) -> Target {
        let fd = self.fd.as_ref().map_or(-1, OwnedFd::as_raw_fd);
        Target { fd, id: self.id, ..Target::NONE }
    }
}

impl Drop for Duplicate {
    /// Closes it at once instead of through the driver: the owner of the file may wait for its last
    /// fd to be closed.
    fn drop(&mut self) {
        drop(self.fd.take().inspect(forget));
    }
}

/// Makes the driver forget an fd that is given away or closed elsewhere.
pub(super) fn forget(fd: &OwnedFd) {
    Runtime::try_with(|runtime| {
        if let Some(runtime) = runtime {
            runtime.driver(|driver| driver.forget(fd.as_raw_fd()));
        }
    });
}

/// The error of giving away an fd that an operation holds which was leaked (`mem::forget`).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("an operation on this handle was leaked while in flight: the fd is never closed")]
pub(crate) struct LeakedOperation;

impl From<LeakedOperation> for std::io::Error {
    fn from(error: LeakedOperation) -> Self {
        std::io::Error::new(std::io::ErrorKind::ResourceBusy, error)
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("only `drop` and `into_fd` take the fd"),
        }
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for Descriptor {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        match &self.fd {
            Some(fd) => fd.as_socket(),
            None => unreachable!("only `drop` and `into_fd` take the fd"),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        if self.holds.get() > 0 {
            // A leaked operation names this fd: it must never be reused.
            let _ = fd.into_raw_fd();
            return;
        }
        // No operation names the fd any more. Only sockets and pipes are in non-blocking mode.
        let socket = self.plain;
        if self.exposed.get() {
            // The thread must not wait for the peer.
            options::stop_lingering(fd.as_fd());
        }
        Runtime::try_with(|runtime| match runtime {
            Some(runtime) if !runtime.is_closing() => {
                runtime.driver(|driver| driver.close(fd, socket));
            }
            _ => drop(fd),
        });
    }
}
