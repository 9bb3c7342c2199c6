//! What operations act on, and who keeps it open.
//!
//! An operation borrows its file, so safe code can't close it underneath, unless the operation is
//! leaked: then the borrow ends while the kernel still has the fd's *number* in a queue, and the
//! number may be reused before the kernel looks it up. Three answers, by where the fd comes from:
//!
//! - a handle of this crate counts the operations that hold it; one that is dropped with a leaked
//!   operation outstanding leaves its fd open for ever;
//! - a [registered file](super::FixedFile) is kept open by the operation;
//! - a borrowed fd of any other type is duplicated for the time of the operation.
//!
//! # Why this file has `unsafe`
//! What a source holds is dropped by hand, as nearly all of them hold a plain reference.

use crate::os;
use crate::os::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::SockRef;

use super::fixed::FixedFile;
use crate::driver::{Driver, Target};
use crate::runtime::Runtime;

/// The fd inside a handle, and how many operations hold it.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// `None` only while being dropped.
    fd: Option<OwnedFd>,
    id: u64,
    holds: Cell<u32>,
    nonblocking: bool,
    buffered: bool,
    /// As in [`Target::eager`].
    eager: Cell<bool>,
}

/// A number that no other descriptor of this process has had.
fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self::with_mode(fd, false)
    }

    /// For an open file; `buffered` as in [`Target::buffered`].
    pub(crate) fn file(fd: OwnedFd, buffered: bool) -> Self {
        let mut descriptor = Self::with_mode(fd, false);
        descriptor.buffered = buffered;
        descriptor
    }

    /// For a socket, which is put into non-blocking mode.
    pub(crate) fn socket(fd: OwnedFd) -> Self {
        let nonblocking = SockRef::from(&fd).set_nonblocking(true).is_ok();
        Self::with_mode(fd, nonblocking)
    }

    /// For a socket that was made in non-blocking mode.
    #[inline(always)]
    pub(crate) fn nonblocking_socket(fd: OwnedFd) -> Self {
        Self::with_mode(fd, true)
    }

    #[inline(always)]
    fn with_mode(fd: OwnedFd, nonblocking: bool) -> Self {
        let (id, holds) = (fresh_id(), Cell::new(0));
        let eager = Cell::new(false);
        Descriptor { fd: Some(fd), id, holds, nonblocking, buffered: false, eager }
    }

    #[inline(always)]
    fn target(&self, slot: i32) -> Target {
        let &Descriptor { id, nonblocking, buffered, .. } = self;
        // What another operation has queued must not be overtaken.
        let eager = self.eager.get() && self.holds.get() == 1;
        Target { fd: self.raw(), slot, id, nonblocking, buffered, eager }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> RawFd {
        match &self.fd {
            Some(fd) => fd.as_raw_fd(),
            None => -1,
        }
    }

    /// Gives the fd away. An error if a leaked operation still holds it; it is then never closed.
    pub(crate) fn into_fd(mut self) -> Result<OwnedFd, LeakedOperation> {
        match self.fd.take() {
            Some(fd) if self.holds.get() == 0 => {
                Runtime::try_with(|runtime| {
                    runtime
                        .inspect(|runtime| runtime.driver(|driver| driver.forget(fd.as_raw_fd())));
                });
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

/// The fd goes to somebody else, or away: the driver is not to look at it any more.
fn forget(fd: &OwnedFd) {
    Runtime::try_with(|runtime| {
        if let Some(runtime) = runtime {
            runtime.driver(|driver| driver.forget(fd.as_raw_fd()));
        }
    });
}

/// An operation on a handle was leaked (`mem::forget`) while in flight.
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
        // No operation names the fd any more. What is in non-blocking mode is a socket.
        let socket = self.nonblocking;
        Runtime::try_with(|runtime| match runtime {
            Some(runtime) if !runtime.is_closing() => {
                runtime.driver(|driver| driver.close(fd, socket));
            }
            _ => drop(fd),
        });
    }
}

/// What an operation acts on; made by `From` or [`Source::from`] of
///
/// - a reference to a handle of this crate ([`TcpStream`](crate::net::TcpStream),
///   [`File`](crate::fs::File), …),
/// - a reference to a [`FixedFile`],
/// - a [`BorrowedFd`], or a reference to any type of `std` that has one. The operation then works
///   on a duplicate of the fd, which costs two cheap system calls. (By a rule of POSIX, closing
///   any fd of a file drops the process's record locks on it, see `fcntl(2)`; turn the fd into a
///   handle where that matters.)
///
/// # Examples
/// ```
/// use corio::op::AsyncRecv;
/// use std::os::unix::net::UnixStream;
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.run_until_done(async {
/// let (a, b) = UnixStream::pair()?;
/// std::io::Write::write_all(&mut &b, b"hi")?;
/// let (result, buf) = AsyncRecv::new(&a, Vec::with_capacity(16)).await;
/// assert_eq!((result?, &buf[..]), (2, &b"hi"[..]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Source<'a>(ManuallyDrop<Inner<'a>>);

impl<'a> Source<'a> {
    #[inline(always)]
    const fn of(inner: Inner<'a>) -> Self {
        Source(ManuallyDrop::new(inner))
    }
}

#[derive(Debug)]
enum Inner<'a> {
    /// A handle, not held yet.
    Handle(&'a Descriptor),
    /// A handle, held by this operation, and what was in it. (The reference is good for as long as
    /// this value can be dropped. A leaked operation has to do without.)
    Held(&'a Descriptor, Target),
    /// Somebody else's fd, not duplicated yet.
    Borrowed(BorrowedFd<'a>),
    Duplicate(Descriptor),
    /// A registered file, not looked up yet.
    Fixed(&'a FixedFile),
    /// A registered file, kept open by this operation.
    Registered(Rc<Descriptor>, FixedFile),
}

impl Source<'_> {
    /// Takes hold of the file for the time of an operation; an error number if that fails.
    #[inline(always)]
    pub(crate) fn hold(&mut self) -> Result<(), i32> {
        match *self.0 {
            Inner::Handle(descriptor) => {
                descriptor.holds.set(descriptor.holds.get() + 1);
                *self = Source::of(Inner::Held(descriptor, descriptor.target(-1)));
                Ok(())
            }
            Inner::Held(..) => Ok(()),
            _ => self.hold_slow(),
        }
    }

    #[cold]
    fn hold_slow(&mut self) -> Result<(), i32> {
        match &*self.0 {
            Inner::Borrowed(fd) => {
                let fd = fd
                    .try_clone_to_owned()
                    .map_err(|error| error.raw_os_error().unwrap_or(os::EBADF))?;
                *self = Source::of(Inner::Duplicate(Descriptor::new(fd)));
            }
            Inner::Fixed(file) => {
                let fd = file.lookup()?;
                *self = Source::of(Inner::Registered(fd, (*file).clone()));
            }
            _ => {}
        }
        Ok(())
    }

    /// What to tell the driver, once [held](Self::hold). A driver may ask again for an operation that
    /// was leaked in flight, whose borrows have ended: nothing borrowed is looked at here.
    #[inline(always)]
    pub(crate) fn target(&self) -> Target {
        match &*self.0 {
            &Inner::Held(_, target) => target,
            Inner::Duplicate(descriptor) => descriptor.target(-1),
            // A later step of an operation may find another file in the slot: it goes on with its
            // own by the fd.
            Inner::Registered(descriptor, file) => {
                descriptor.target(file.lookup().map_or(-1, |_| file.slot() as i32))
            }
            Inner::Handle(_) | Inner::Borrowed(_) | Inner::Fixed(_) => {
                unreachable!("an operation holds its file before it describes itself")
            }
        }
    }
}

impl Source<'_> {
    /// Takes note of whether a receive, whose future is there, has left more in the socket.
    #[inline(always)]
    pub(super) fn set_eager(&self, more: bool) {
        if let Inner::Held(descriptor, _) = *self.0 {
            descriptor.eager.set(more);
        }
    }
}

impl Drop for Source<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match *self.0 {
            Inner::Held(descriptor, _) => descriptor.holds.set(descriptor.holds.get() - 1),
            Inner::Handle(_) | Inner::Borrowed(_) | Inner::Fixed(_) => {}
            Inner::Duplicate(_) | Inner::Registered(..) => self.drop_slow(),
        }
    }
}

impl Source<'_> {
    #[cold]
    fn drop_slow(&mut self) {
        if let Inner::Duplicate(descriptor) = &mut *self.0 {
            // At once: its owner may wait for the last fd of the file to go.
            drop(descriptor.fd.take().inspect(forget));
        }
        // SAFETY: called by `drop` alone, so it is not used again.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

impl<'a> From<&'a Descriptor> for Source<'a> {
    #[inline(always)]
    fn from(descriptor: &'a Descriptor) -> Self {
        Source::of(Inner::Handle(descriptor))
    }
}

impl<'a> From<&'a FixedFile> for Source<'a> {
    fn from(file: &'a FixedFile) -> Self {
        Source::of(Inner::Fixed(file))
    }
}

impl<'a> From<BorrowedFd<'a>> for Source<'a> {
    fn from(fd: BorrowedFd<'a>) -> Self {
        Source::of(Inner::Borrowed(fd))
    }
}

macro_rules! from_std {
    ($($ty:ty),+ $(,)?) => {$(
        impl<'a> From<&'a $ty> for Source<'a> {
            fn from(file: &'a $ty) -> Self {
                Source::of(Inner::Borrowed(file.as_fd()))
            }
        }
    )+};
}

from_std! {
    OwnedFd, std::fs::File, std::net::TcpListener, std::net::TcpStream, std::net::UdpSocket,
}

#[cfg(unix)]
from_std! {
    std::io::Stdin, std::io::Stdout, std::io::Stderr,
    std::os::unix::net::UnixListener, std::os::unix::net::UnixStream,
    std::os::unix::net::UnixDatagram,
    std::process::ChildStdin, std::process::ChildStdout, std::process::ChildStderr,
}

// The types of `std::io::pipe` exist since Rust 1.87; `build.rs` looks for them.
#[cfg(all(unix, corio_std_pipe))]
from_std! { std::io::PipeReader, std::io::PipeWriter }
