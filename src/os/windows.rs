//! Windows under the names of Unix: one kind of descriptor for sockets and other files.
//!
//! A descriptor's number is the value of its handle, of which 32 bits are significant
//! ("Interprocess Communication Between 32-bit and 64-bit Applications" in the Windows
//! documentation).

// # Why this file has `unsafe`
// It turns those numbers back into handles.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{
    AsHandle, AsRawHandle, AsRawSocket, AsSocket, BorrowedHandle, BorrowedSocket, FromRawHandle,
    FromRawSocket, IntoRawHandle, IntoRawSocket, OwnedHandle, OwnedSocket, RawHandle, RawSocket,
};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use libc::{O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, c_char};
use windows_sys::Win32::Foundation as error;
use windows_sys::Win32::Networking::WinSock as winsock;

/// The number of a descriptor.
pub type RawFd = i32;

/// A socket or any other file, which is closed when this is dropped.
#[derive(Debug)]
pub enum OwnedFd {
    /// A socket.
    Socket(OwnedSocket),
    /// Anything else.
    File(OwnedHandle),
}

/// A socket or any other file that its owner keeps open.
#[derive(Clone, Copy, Debug)]
pub enum BorrowedFd<'a> {
    /// A socket.
    Socket(BorrowedSocket<'a>),
    /// Anything else.
    File(BorrowedHandle<'a>),
}

/// A type that lends its descriptor.
pub trait AsFd {
    /// Borrows the descriptor.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// A type that has a descriptor.
pub trait AsRawFd {
    /// Returns the descriptor's number.
    fn as_raw_fd(&self) -> RawFd;
}

/// A type that can give its descriptor away.
pub trait IntoRawFd {
    /// Gives the descriptor away; the caller has to close it.
    fn into_raw_fd(self) -> RawFd;
}

pub(crate) fn raw_socket(fd: RawFd) -> RawSocket {
    fd as u32 as RawSocket
}

pub(crate) fn raw_handle(fd: RawFd) -> RawHandle {
    fd as isize as RawHandle
}

/// Takes ownership of a socket.
///
/// # Safety
/// 1. The number is that of an open socket, which the caller owns.
pub(crate) unsafe fn owned_socket(fd: RawFd) -> OwnedFd {
    // SAFETY: item 1.
    OwnedFd::Socket(unsafe { OwnedSocket::from_raw_socket(raw_socket(fd)) })
}

/// Takes ownership of a file that is not a socket.
///
/// # Safety
/// 1. The number is that of an open file, which the caller owns and which is not a socket.
pub(crate) unsafe fn owned_file(fd: RawFd) -> OwnedFd {
    // SAFETY: item 1.
    OwnedFd::File(unsafe { OwnedHandle::from_raw_handle(raw_handle(fd)) })
}

/// Borrows a socket.
///
/// # Safety
/// 1. The number is that of an open socket, which stays open for `'a`.
pub(crate) unsafe fn borrowed_socket<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: item 1.
    BorrowedFd::Socket(unsafe { BorrowedSocket::borrow_raw(raw_socket(fd)) })
}

impl BorrowedFd<'_> {
    /// Duplicates the descriptor: a second one for the same file.
    ///
    /// # Errors
    /// The system's error, such as the one for too many open files.
    pub fn try_clone_to_owned(&self) -> io::Result<OwnedFd> {
        match self {
            BorrowedFd::Socket(socket) => socket.try_clone_to_owned().map(OwnedFd::Socket),
            BorrowedFd::File(file) => file.try_clone_to_owned().map(OwnedFd::File),
        }
    }
}

impl AsRawFd for BorrowedFd<'_> {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            BorrowedFd::Socket(socket) => socket.as_raw_socket() as RawFd,
            BorrowedFd::File(file) => file.as_raw_handle() as isize as RawFd,
        }
    }
}

impl AsFd for OwnedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OwnedFd::Socket(socket) => BorrowedFd::Socket(socket.as_socket()),
            OwnedFd::File(file) => BorrowedFd::File(file.as_handle()),
        }
    }
}

impl<T: AsFd> AsRawFd for T {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsSocket for OwnedFd {
    /// # Panics
    /// If the descriptor is not that of a socket.
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match self {
            OwnedFd::Socket(socket) => socket.as_socket(),
            OwnedFd::File(_) => panic!("this descriptor is that of a file, not of a socket"),
        }
    }
}

impl AsSocket for BorrowedFd<'_> {
    /// # Panics
    /// If the descriptor is not that of a socket.
    fn as_socket(&self) -> BorrowedSocket<'_> {
        match self {
            BorrowedFd::Socket(socket) => *socket,
            BorrowedFd::File(_) => panic!("this descriptor is that of a file, not of a socket"),
        }
    }
}

impl IntoRawFd for OwnedFd {
    fn into_raw_fd(self) -> RawFd {
        match self {
            OwnedFd::Socket(socket) => socket.into_raw_socket() as RawFd,
            OwnedFd::File(file) => file.into_raw_handle() as isize as RawFd,
        }
    }
}

macro_rules! sockets {
    ($($ty:ty),+) => {$(
        impl From<$ty> for OwnedFd {
            fn from(socket: $ty) -> Self {
                OwnedFd::Socket(socket.into())
            }
        }
        impl AsFd for $ty {
            fn as_fd(&self) -> BorrowedFd<'_> {
                BorrowedFd::Socket(self.as_socket())
            }
        }
    )+};
}

macro_rules! files {
    ($($ty:ty),+) => {$(
        impl From<$ty> for OwnedFd {
            fn from(file: $ty) -> Self {
                OwnedFd::File(file.into())
            }
        }
        impl AsFd for $ty {
            fn as_fd(&self) -> BorrowedFd<'_> {
                BorrowedFd::File(self.as_handle())
            }
        }
    )+};
}

sockets!(
    OwnedSocket,
    std::net::TcpListener,
    std::net::TcpStream,
    std::net::UdpSocket,
    socket2::Socket
);
files!(OwnedHandle, std::fs::File);

/// One of several buffers; converted to the system's own form for the call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct iovec {
    pub(crate) iov_base: *mut c_void,
    pub(crate) iov_len: usize,
}

/// A message without control data; converted to the system's own form for the call.
#[derive(Clone, Copy)]
pub struct msghdr {
    pub(crate) msg_name: *mut c_void,
    pub(crate) msg_namelen: socklen_t,
    pub(crate) msg_iov: *mut iovec,
    pub(crate) msg_iovlen: usize,
    pub(crate) msg_control: *mut c_void,
    pub(crate) msg_controllen: usize,
    pub(crate) msg_flags: i32,
}

pub(crate) use winsock::SOCKADDR as sockaddr;
pub(crate) type socklen_t = i32;

// Error numbers, chosen so that `std` makes the same kind of each as on Unix. (It takes
// ERROR_OPERATION_ABORTED for a time-out.)
pub(crate) const ECANCELED: i32 = error::ERROR_CANCELLED as i32;
pub(crate) const EBADF: i32 = error::ERROR_INVALID_HANDLE as i32;
pub(crate) const ENOSYS: i32 = error::ERROR_CALL_NOT_IMPLEMENTED as i32;
pub(crate) const EINVAL: i32 = error::ERROR_INVALID_PARAMETER as i32;
pub(crate) const ENOBUFS: i32 = winsock::WSAENOBUFS;
pub(crate) const EBUSY: i32 = error::ERROR_BUSY as i32;
pub(crate) const EMFILE: i32 = winsock::WSAEMFILE;
pub(crate) const ENFILE: i32 = error::ERROR_TOO_MANY_OPEN_FILES as i32;
pub(crate) const ENXIO: i32 = error::ERROR_NOT_FOUND as i32;
pub(crate) const EIO: i32 = error::ERROR_IO_DEVICE as i32;
pub(crate) const EOPNOTSUPP: i32 = winsock::WSAEOPNOTSUPP;
pub(crate) const EAGAIN: i32 = winsock::WSAEWOULDBLOCK;
pub(crate) const EINPROGRESS: i32 = winsock::WSAEINPROGRESS;
pub(crate) const EINTR: i32 = winsock::WSAEINTR;

pub(crate) use winsock::{MSG_DONTROUTE, MSG_OOB, MSG_PEEK, MSG_WAITALL};
/// Flags of this crate's own, never passed to the system.
pub(crate) const MSG_DONTWAIT: i32 = 1 << 30;
pub(crate) const MSG_TRUNC: i32 = 1 << 29;
pub(crate) const MSG_CTRUNC: i32 = 1 << 28;
pub(crate) const MSG_CONFIRM: i32 = 0;
pub(crate) const MSG_EOR: i32 = 0;
pub(crate) const MSG_ERRQUEUE: i32 = 0;
pub(crate) const MSG_FASTOPEN: i32 = 0;
pub(crate) const MSG_MORE: i32 = 0;
pub(crate) const MSG_NOSIGNAL: i32 = 0;
pub(crate) const MSG_CMSG_CLOEXEC: i32 = 0;

/// Without `POLLRDBAND`, which `POLLIN` contains there: plain data is reported as this alone.
pub(crate) const POLLIN: i16 = winsock::POLLRDNORM;
pub(crate) use winsock::{POLLERR, POLLHUP, POLLPRI};
pub(crate) const POLLOUT: i16 = winsock::POLLWRNORM;
pub(crate) const SHUT_RD: i32 = 0;
pub(crate) const SHUT_WR: i32 = 1;
pub(crate) const SHUT_RDWR: i32 = 2;

pub(crate) const EPERM: i32 = error::ERROR_ACCESS_DENIED as i32;
/// Not an error of an accept on Windows.
pub(crate) const EPROTO: i32 = libc::EPROTO;
pub(crate) const O_ACCMODE: i32 = O_RDONLY | O_WRONLY | O_RDWR;
pub(crate) const O_CLOEXEC: i32 = 0;
/// The current directory, from which relative paths start; Windows has no other choice.
pub(crate) const AT_FDCWD: RawFd = -100;
pub(crate) const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
pub(crate) const AT_EMPTY_PATH: i32 = 0x1000;
pub(crate) const AT_REMOVEDIR: i32 = 0x200;

pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;

/// File metadata, as Windows has it.
#[derive(Clone, Copy, Default)]
pub struct Stat {
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) modified: Option<super::Time>,
    pub(crate) accessed: Option<super::Time>,
    pub(crate) created: Option<super::Time>,
}

impl super::StatParts for Stat {
    fn size(&self) -> u64 {
        self.size
    }
    fn mode(&self) -> u32 {
        self.mode
    }
    fn modified(&self) -> Option<super::Time> {
        self.modified
    }
    fn accessed(&self) -> Option<super::Time> {
        self.accessed
    }
    fn created(&self) -> Option<super::Time> {
        self.created
    }
}

/// Returns the time of a monotonic clock, since its first use.
pub(crate) fn coarse_now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Returns a descriptor in the form that the `polling` crate takes.
pub(crate) fn source(fd: RawFd) -> RawSocket {
    raw_socket(fd)
}

/// Borrows a socket by its number.
///
/// # Safety
/// 1. The socket is open as long as the result is used.
pub(crate) unsafe fn lend<'a>(fd: RawFd) -> BorrowedSocket<'a> {
    // SAFETY: item 1.
    unsafe { BorrowedSocket::borrow_raw(raw_socket(fd)) }
}

/// As on Unix; not used on Windows.
pub(crate) fn is_buffered(_: i32) -> bool {
    false
}

/// As on Unix; not used on Windows.
pub(crate) fn open_flags(_: BorrowedFd<'_>) -> i32 {
    -1
}
