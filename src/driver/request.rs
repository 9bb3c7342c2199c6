//! Requests: the system calls that a driver can carry out, as plain values.

use std::ptr::NonNull;

use super::call::{Args, Call};
use super::recv_queue::RecvQueue;
use crate::os::{self, RawFd};

/// The file or socket that an operation acts on.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The file descriptor; valid in any case.
    pub(crate) fd: RawFd,
    /// The slot in the table of registered files, or -1; for a driver that has such a table.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) slot: i32,
    /// Distinguishes this file from any other that has or had the same fd.
    pub(crate) id: u64,
    /// Known to be in non-blocking mode (`O_NONBLOCK`).
    pub(crate) nonblocking: bool,
    /// Known to have its contents kept in memory by the kernel: a file not opened with `O_DIRECT`.
    /// It may still be a pipe, or on a file system that keeps nothing.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) buffered: bool,
    /// The last receive left more in the socket, so the next is not likely to wait.
    #[cfg_attr(not(corio_uring), allow(dead_code))]
    pub(crate) eager: bool,
}

impl Target {
    /// No file.
    pub(crate) const NONE: Target =
        Target { fd: -1, slot: -1, id: 0, nonblocking: false, buffered: false, eager: false };
}

/// How long the close of a file may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not known yet.
    Unknown,
    /// It does not block.
    AtOnce,
    /// It blocks only if the file system flushes every file that is closed.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Flush,
    /// As long as a disk takes: to write, or to free the space of a file without a name.
    Disk,
    /// For ever: until a peer answers, or a terminal has taken its output.
    Waits,
}

/// A system call for a driver to make. Fds that it yields are close-on-exec, accepted sockets also
/// non-blocking.
///
/// A plain system call is a [`Call`](Request::Call). Each other variant is the system call of its
/// name, for which drivers take special care.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// A plain system call, by the tables in `driver/calls`. `fd` and `len` are for reports, so
    /// that nothing safe has to read the arguments.
    Call {
        call: &'static Call,
        args: NonNull<Args>,
        fd: RawFd,
        len: u32,
    },
    Nop,
    Read {
        fd: Target,
        ptr: *mut u8,
        len: u32,
        offset: u64,
    },
    Write {
        fd: Target,
        ptr: *const u8,
        len: u32,
        offset: u64,
    },
    Readv {
        fd: Target,
        iov: *const os::iovec,
        count: u32,
        offset: u64,
    },
    Writev {
        fd: Target,
        iov: *const os::iovec,
        count: u32,
        offset: u64,
    },
    Open {
        dir: RawFd,
        path: *const os::c_char,
        flags: i32,
        mode: u32,
    },
    /// Closes a file, whose number is free afterwards, whatever the result.
    Close {
        fd: RawFd,
        ending: Ending,
    },
    Statx {
        dir: RawFd,
        path: *const os::c_char,
        flags: i32,
        out: *mut os::Stat,
    },
    Accept {
        fd: Target,
        addr: *mut os::sockaddr,
        addr_len: *mut os::socklen_t,
    },
    Connect {
        fd: Target,
        addr: *const os::sockaddr,
        addr_len: os::socklen_t,
    },
    Recv {
        fd: Target,
        ptr: *mut u8,
        len: u32,
        flags: i32,
    },
    /// Receives into the driver's own memory: the buffer, whose length is the result, is in
    /// `queue`, which came from `Rc::as_ptr`; the operation has a strong count of it. Stream
    /// sockets only.
    RecvProvided {
        fd: Target,
        queue: *const RecvQueue,
    },
    Send {
        fd: Target,
        ptr: *const u8,
        len: u32,
        flags: i32,
    },
    Recvmsg {
        fd: Target,
        msg: *mut os::msghdr,
        flags: u32,
    },
    Sendmsg {
        fd: Target,
        msg: *const os::msghdr,
        flags: u32,
    },
    Poll {
        fd: Target,
        events: u32,
    },
    /// Sends as much as the socket takes without blocking, at least one byte; 0 at the end of the
    /// file.
    /// `full`: the last try ended because the socket had no more room, so the next may wait for
    /// some. `pages`: -EINTR if they are [`Unknown`](Pages::Unknown) and not all in memory, and
    /// after they were [`Missing`](Pages::Missing) and have been read, on a thread.
    Sendfile {
        out: Target,
        file: Target,
        offset: u64,
        len: u32,
        #[cfg_attr(not(corio_uring), allow(dead_code))]
        full: bool,
        pages: Pages,
    },
    /// Moves the available bytes, at least one, between a socket and a pipe, without waiting for
    /// more; 0 at the end of the stream. Waits for the socket; a pipe without room, or without
    /// bytes, is `-EBUSY`, urgent data that is next in the socket `-EBADMSG`.
    #[cfg(target_os = "linux")]
    Splice {
        socket: Target,
        pipe: Target,
        len: u32,
        into_pipe: bool,
    },
}

/// Offset of a read or write that uses and moves the file's own position, or has none (a pipe).
pub(crate) const CURRENT_POSITION: u64 = u64::MAX;

/// What is known of the pages that a sendfile is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Nothing: the driver has to ask, where the host can tell.
    Unknown,
    /// They are not all in memory, and are to be read.
    Missing,
    /// They have just been read.
    Fetched,
}

impl Request {
    /// The file descriptor (-1: none) and the number of bytes, for reports.
    #[inline(always)]
    pub(crate) fn summary(&self) -> (RawFd, u32) {
        use Request::*;
        match *self {
            Nop => (-1, 0),
            Read { fd, len, .. } | Recv { fd, len, .. } => (fd.fd, len),
            Write { fd, len, .. } | Send { fd, len, .. } => (fd.fd, len),
            Readv { fd, count, .. } | Writev { fd, count, .. } => (fd.fd, count),
            Open { .. } | Statx { .. } => (-1, 0),
            Close { fd, .. } => (fd, 0),
            RecvProvided { fd, .. } => (fd.fd, 0),
            Call { fd, len, .. } => (fd, len),
            Accept { fd, .. } | Connect { fd, .. } | Poll { fd, .. } => (fd.fd, 0),
            Recvmsg { fd, .. } | Sendmsg { fd, .. } => (fd.fd, 0),
            Sendfile { out, len, .. } => (out.fd, len),
            #[cfg(target_os = "linux")]
            Splice { socket, len, .. } => (socket.fd, len),
        }
    }
}
