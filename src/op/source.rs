//! The file or socket that an operation acts on, kept open while the operation is in flight.
//!
//! An operation borrows its file, so safe code can't close it underneath, unless the operation is
//! leaked: then the borrow ends while the kernel still has the fd's *number* in a queue, and the
//! number may be reused before the kernel looks it up. Three answers, by where the fd comes from:
//!
//! - a handle of this crate counts the operations that hold it; one that is dropped with a leaked
//!   operation outstanding leaves its fd open for ever;
//! - a [registered file](super::FixedFile), and a handle that several own, is kept open by the
//!   operation;
//! - a borrowed fd of any other type is duplicated for the time of the operation.

// # Why this file has `unsafe`
// The contents of a source are dropped by hand: nearly all of them are a plain reference.

use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::descriptor::{Descriptor, Duplicate};
use super::fixed::FixedFile;
use super::future::failed;
use super::order::Order;
use crate::driver::Target;
use crate::os::{self, AsFd, BorrowedFd, OwnedFd};

/// The file or socket that an operation acts on: a handle, a registered file or a borrowed fd.
///
/// Made by `From` of
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
/// # context.block_on(async {
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
    /// A handle that this operation holds, and its contents at that time. The reference is valid as
    /// long as this value can be dropped; a leaked operation must not use it.
    Held(&'a Descriptor, Target),
    /// A handle that this operation shares, and so keeps open.
    Shared(Rc<Descriptor>),
    /// An fd of another type, not duplicated yet.
    Borrowed(BorrowedFd<'a>),
    /// Small, as each operation's future has room for any of these.
    Duplicate(Duplicate),
    /// A registered file, not looked up yet.
    Fixed(&'a FixedFile),
    /// A registered file, kept open by this operation.
    Registered(Rc<Descriptor>, FixedFile),
}

impl Source<'_> {
    /// Keeps the file open for the time of the operation; breaks with the error if that fails.
    #[inline(always)]
    pub(crate) fn hold(&mut self) -> ControlFlow<i32> {
        match *self.0 {
            Inner::Handle(descriptor) => {
                *self = Source::of(Inner::Held(descriptor, descriptor.hold()));
                ControlFlow::Continue(())
            }
            Inner::Held(..) => ControlFlow::Continue(()),
            _ => self.hold_slow(),
        }
    }

    #[cold]
    fn hold_slow(&mut self) -> ControlFlow<i32> {
        match &*self.0 {
            Inner::Borrowed(fd) => match fd.try_clone_to_owned() {
                Ok(fd) => *self = Source::of(Inner::Duplicate(Duplicate::new(fd))),
                Err(error) => return failed(error.raw_os_error().unwrap_or(os::EBADF)),
            },
            Inner::Fixed(file) => match file.lookup() {
                Ok(fd) => *self = Source::of(Inner::Registered(fd, (*file).clone())),
                Err(errno) => return failed(errno),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Returns the target of a request, once [held](Self::hold). A driver may ask again for an
    /// operation that was leaked in flight, whose borrows have ended: reads nothing borrowed.
    #[inline(always)]
    pub(crate) fn target(&self) -> Target {
        match &*self.0 {
            &Inner::Held(_, target) => target,
            // Other operations may have queued something that an inline call would overtake.
            Inner::Shared(descriptor) => Target { eager: false, ..descriptor.target(-1) },
            Inner::Duplicate(duplicate) => duplicate.target(),
            // Another file may be in the slot when an operation of several steps goes on: it then
            // names its own file by the fd.
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
    /// Does what [`hold`](Self::hold) does. The mode of a listener that may have other owners is
    /// looked at each time: an accept in blocking mode could wait.
    #[inline(always)]
    pub(super) fn hold_listener(&mut self) -> ControlFlow<i32> {
        self.hold()?;
        if let Inner::Held(descriptor, target) = &mut *self.0 {
            target.nonblocking &= !descriptor.is_exposed();
        }
        ControlFlow::Continue(())
    }

    /// Returns `true` if code outside of this crate may have set options. For an operation whose
    /// future still exists.
    #[inline(always)]
    pub(super) fn is_exposed(&self) -> bool {
        match &*self.0 {
            Inner::Held(descriptor, _) => descriptor.is_exposed(),
            _ => true,
        }
    }

    /// Does what [`hold`](Self::hold) does, for an operation that receives. Returns the handle if
    /// its receive streams may have received bytes ahead: these come first. Written out, as is
    /// [`hold_first`](Self::hold_first): by a call of `hold` each takes 5 more instructions.
    #[inline(always)]
    pub(super) fn hold_to_receive(&mut self) -> ControlFlow<i32, Option<&Descriptor>> {
        let descriptor = match *self.0 {
            Inner::Handle(descriptor) => {
                *self = Source::of(Inner::Held(descriptor, descriptor.hold()));
                descriptor
            }
            Inner::Held(descriptor, _) => descriptor,
            _ => {
                self.hold_slow()?;
                return ControlFlow::Continue(None);
            }
        };
        ControlFlow::Continue(if descriptor.ahead().any() { Some(descriptor) } else { None })
    }

    /// Does what [`hold`](Self::hold) does, for a whole transfer; takes its place at once if no
    /// other has one, and the file is a handle. Returns `true` if it has.
    #[inline(always)]
    pub(super) fn hold_first(&mut self, direction: u8) -> ControlFlow<i32, bool> {
        match *self.0 {
            Inner::Handle(descriptor) => {
                *self = Source::of(Inner::Held(descriptor, descriptor.hold()));
                ControlFlow::Continue(descriptor.order().take(direction))
            }
            Inner::Held(..) => ControlFlow::Continue(false),
            _ => {
                self.hold_slow()?;
                ControlFlow::Continue(false)
            }
        }
    }

    /// Lets a handle go whose transfer has a place, unless others wait for that; `true`: nothing is
    /// left to be dropped.
    #[inline(always)]
    pub(super) fn release_first(&self, direction: u8) -> bool {
        match *self.0 {
            Inner::Held(descriptor, _) if descriptor.order().give_up(direction) => {
                descriptor.release();
                true
            }
            _ => false,
        }
    }

    /// Returns the order of whole transfers on the handle or registered file, once held; an fd of
    /// another type has none.
    #[cold]
    pub(super) fn order(&self) -> Option<&Order> {
        match &*self.0 {
            Inner::Held(descriptor, _) => Some(descriptor.order()),
            Inner::Shared(descriptor) | Inner::Registered(descriptor, _) => {
                Some(descriptor.order())
            }
            _ => None,
        }
    }

    /// Returns the handle, unless the file is one of another type.
    pub(super) fn handle(&self) -> Option<&Descriptor> {
        match &*self.0 {
            Inner::Handle(descriptor) | Inner::Held(descriptor, _) => Some(descriptor),
            Inner::Shared(descriptor) => Some(descriptor),
            _ => None,
        }
    }

    /// Stores in the handle whether a receive, whose future still exists, left more in the socket.
    #[inline(always)]
    pub(super) fn set_eager(&self, more: bool) {
        if let Inner::Held(descriptor, _) = *self.0 {
            descriptor.set_eager(more);
        }
    }
}

impl Drop for Source<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match *self.0 {
            Inner::Held(descriptor, _) => descriptor.release(),
            Inner::Handle(_) | Inner::Borrowed(_) | Inner::Fixed(_) => {}
            Inner::Shared(_) | Inner::Duplicate(_) | Inner::Registered(..) => self.drop_slow(),
        }
    }
}

impl Source<'_> {
    #[cold]
    fn drop_slow(&mut self) {
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

impl From<Rc<Descriptor>> for Source<'_> {
    fn from(descriptor: Rc<Descriptor>) -> Self {
        Source::of(Inner::Shared(descriptor))
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
