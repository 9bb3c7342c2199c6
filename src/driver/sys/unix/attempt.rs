//! Requests carried out without waiting.
//!
//! # Why this file has `unsafe`
//! It makes system calls with memory that a request names.

use std::os::fd::RawFd;

use super::{SigPipe, errno, option, retry};
use crate::driver::{CURRENT_POSITION, Request, Target};

/// Makes a call on a file in non-blocking mode; also gives the number of system calls.
///
/// The socket handles of this crate always are in that mode. A file that came from elsewhere is put
/// into it for the time of the call.
pub(in crate::driver) fn without_waiting(on: Target, call: impl FnOnce() -> i32) -> (i32, u64) {
    if on.nonblocking {
        return (call(), 1);
    }
    // SAFETY: passes no memory.
    let mode = unsafe { libc::fcntl(on.fd, libc::F_GETFL) };
    if mode < 0 {
        return (-errno(), 1);
    }
    if mode & libc::O_NONBLOCK != 0 {
        return (call(), 2);
    }
    // SAFETY: passes no memory.
    if unsafe { libc::fcntl(on.fd, libc::F_SETFL, mode | libc::O_NONBLOCK) } < 0 {
        return (-errno(), 2);
    }
    let result = call();
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(on.fd, libc::F_SETFL, mode) };
    (result, 4)
}

/// Carries a request out, or says `-EAGAIN` where that would mean to wait; also gives the number of
/// system calls.
///
/// # Safety
/// All memory that the request names is there, and not used otherwise.
#[inline(always)]
pub(in crate::driver) unsafe fn attempt(request: Request, sigpipe: SigPipe) -> (i32, u64) {
    use Request::*;
    match request {
        // SAFETY: what the caller promises.
        Recv { fd, ptr, len, flags } => (unsafe { recv_at_once(fd.fd, ptr, len, flags) }, 1),
        // SAFETY: what the caller promises.
        Send { fd, ptr, len, flags } => (unsafe { send_at_once(fd.fd, ptr, len, flags) }, 1),
        // SAFETY: what the caller promises.
        request => unsafe { attempt_other(request, sigpipe) },
    }
}

/// Receives what is there, or says `-EAGAIN`.
///
/// # Safety
/// As for [`attempt`].
#[inline(always)]
pub(in crate::driver) unsafe fn recv_at_once(fd: RawFd, ptr: *mut u8, len: u32, flags: i32) -> i32 {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: what the caller promises.
    retry(|| unsafe { libc::recv(fd, ptr.cast(), len as usize, flags) })
}

/// Sends what there is room for, or says `-EAGAIN`.
///
/// # Safety
/// As for [`attempt`].
#[inline(always)]
pub(in crate::driver) unsafe fn send_at_once(
    fd: RawFd,
    ptr: *const u8,
    len: u32,
    flags: i32,
) -> i32 {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: what the caller promises.
    retry(|| unsafe { libc::send(fd, ptr.cast(), len as usize, flags) })
}

unsafe fn attempt_other(request: Request, sigpipe: SigPipe) -> (i32, u64) {
    use Request::*;
    // SAFETY: in all of these, what the caller promises.
    unsafe {
        match request {
            Recvmsg { fd, msg, flags } => {
                let flags = flags as i32 | libc::MSG_DONTWAIT;
                (retry(|| libc::recvmsg(fd.fd, msg, flags)), 1)
            }
            Sendmsg { fd, msg, flags } => {
                let flags = flags as i32 | libc::MSG_DONTWAIT;
                (retry(|| libc::sendmsg(fd.fd, msg, flags)), 1)
            }
            Accept { fd, addr, addr_len } => without_waiting(fd, || accept(fd.fd, addr, addr_len)),
            Connect { fd, addr, addr_len } => {
                without_waiting(fd, || connect(fd.fd, addr, addr_len))
            }
            Read { fd, ptr, len, offset } => without_waiting(fd, || read(fd.fd, ptr, len, offset)),
            Write { fd, ptr, len, offset } => {
                without_waiting(fd, || sigpipe.without(|| write(fd.fd, ptr, len, offset)))
            }
            Readv { fd, iov, count, offset } => {
                without_waiting(fd, || readv(fd.fd, iov, count, offset))
            }
            Writev { fd, iov, count, offset } => {
                without_waiting(fd, || sigpipe.without(|| writev(fd.fd, iov, count, offset)))
            }
            Call { call, args, .. } => (call.perform(args.as_ref()), 1),
            Poll { fd, events } => (poll(fd.fd, events), 1),
            Sendfile { out, file, offset, len, .. } => {
                super::sendfile(sigpipe, out, file, offset, len)
            }
            #[cfg(target_os = "linux")]
            Splice { socket, pipe, len, into_pipe } => {
                super::splice(sigpipe, socket, pipe, len, into_pipe)
            }
            Nop
            | Open { .. }
            | Close { .. }
            | Statx { .. }
            | Recv { .. }
            | Send { .. }
            | RecvProvided { .. } => {
                unreachable!("{request:?} is not for attempts")
            }
        }
    }
}

/// An interrupted connect goes on by itself, and must not be made again.
unsafe fn connect(fd: RawFd, addr: *const libc::sockaddr, len: libc::socklen_t) -> i32 {
    // SAFETY: what the caller promises.
    match unsafe { libc::connect(fd, addr, len) } {
        0 => 0,
        _ => match errno() {
            libc::EINTR => -libc::EINPROGRESS,
            error => -error,
        },
    }
}

#[cfg(not(target_vendor = "apple"))]
unsafe fn accept(fd: RawFd, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> i32 {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: what the caller promises.
    retry(|| unsafe { libc::accept4(fd, addr, len, flags) as isize })
}

#[cfg(target_vendor = "apple")]
unsafe fn accept(fd: RawFd, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> i32 {
    // SAFETY: what the caller promises.
    let accepted = retry(|| unsafe { libc::accept(fd, addr, len) as isize });
    if accepted >= 0 {
        let one = 1i32;
        // SAFETY: passes no memory but `one`. None of these fails on a socket just accepted.
        unsafe {
            libc::fcntl(accepted, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(accepted, libc::F_SETFL, libc::O_NONBLOCK);
            let (one, len) = ((&raw const one).cast(), size_of::<i32>() as libc::socklen_t);
            libc::setsockopt(accepted, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, one, len);
        }
    }
    accepted
}

/// `poll(2)` without waiting: the events that are there, or `-EAGAIN`.
fn poll(fd: RawFd, events: u32) -> i32 {
    let mut poll = libc::pollfd { fd, events: events as i16, revents: 0 };
    // SAFETY: one valid entry.
    match retry(|| unsafe { libc::poll(&mut poll, 1, 0) as isize }) {
        0 => -libc::EAGAIN,
        1 if poll.revents & libc::POLLNVAL != 0 => -libc::EBADF,
        1 => i32::from(poll.revents),
        error => error,
    }
}

/// How the connect of a socket that was reported ready has gone: 0, a negated error number, or
/// `-EAGAIN` if it is still under way.
pub(in crate::driver) fn connected(fd: RawFd) -> i32 {
    match option(fd, libc::SOL_SOCKET, libc::SO_ERROR) {
        Ok(0) => {}
        Ok(error) | Err(error) => return -error,
    }
    let mut storage = std::mem::MaybeUninit::<libc::sockaddr_storage>::uninit();
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `storage` is as long as `len` says.
    match unsafe { libc::getpeername(fd, storage.as_mut_ptr().cast(), &mut len) } {
        0 => 0,
        _ => match errno() {
            libc::ENOTCONN if poll(fd, libc::POLLOUT as u32) == -libc::EAGAIN => -libc::EAGAIN,
            // It has failed, and somebody else has taken the reason.
            libc::ENOTCONN => -libc::ECONNABORTED,
            error => -error,
        },
    }
}

/// What of a read from a file is in memory already; `-EAGAIN` if nothing is, or the host can't tell.
///
/// # Safety
/// As for [`attempt`].
#[cfg(target_os = "linux")]
pub(in crate::driver) unsafe fn read_cached(fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> i32 {
    if !super::host::tells_what_is_cached() {
        return -libc::EAGAIN;
    }
    let iov = libc::iovec { iov_base: ptr.cast(), iov_len: len as usize };
    // Too large an offset is CURRENT_POSITION for the kernel, too.
    let offset = offset as i64;
    // SAFETY: what the caller promises.
    match retry(|| unsafe { libc::preadv2(fd, &iov, 1, offset, libc::RWF_NOWAIT) }) {
        // Not on this file system, or not on this kernel.
        error if error == -libc::EOPNOTSUPP || error == -libc::ENOSYS => -libc::EAGAIN,
        result => result,
    }
}

/// The metadata of an open file, if that takes no waiting: what the kernel has in memory is the truth
/// where it alone changes files, as on the usual file systems of block devices. `false`: not told.
///
/// # Safety
/// As for [`attempt`].
#[cfg(target_os = "linux")]
pub(in crate::driver) unsafe fn stat_at_once(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    out: *mut libc::statx,
) -> bool {
    let flags = flags | libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: what the caller promises.
    unsafe {
        // A path that is not empty would be looked up, which may wait.
        flags & libc::AT_EMPTY_PATH != 0
            && *path == 0
            && libc::statx(dir, path, flags, mask, out) == 0
            && super::host::is_local((*out).stx_dev_major, (*out).stx_dev_minor)
    }
}

#[cfg(not(target_os = "linux"))]
pub(in crate::driver) unsafe fn read_cached(_: RawFd, _: *mut u8, _: u32, _: u64) -> i32 {
    -libc::EAGAIN
}

/// An offset means nothing to a file that has no positions.
fn at(offset: u64, mut call: impl FnMut(Option<i64>) -> isize) -> i32 {
    if offset == CURRENT_POSITION {
        return retry(|| call(None));
    }
    let Ok(offset) = i64::try_from(offset) else { return -libc::EINVAL };
    match retry(|| call(Some(offset))) {
        error if error == -libc::ESPIPE => retry(|| call(None)),
        result => result,
    }
}

pub(super) unsafe fn read(fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> i32 {
    let (ptr, len) = (ptr.cast::<libc::c_void>(), len as usize);
    // SAFETY: what the caller promises.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => libc::pread(fd, ptr, len, offset as libc::off_t),
            None => libc::read(fd, ptr, len),
        }
    })
}

pub(super) unsafe fn write(fd: RawFd, ptr: *const u8, len: u32, offset: u64) -> i32 {
    let (ptr, len) = (ptr.cast::<libc::c_void>(), len as usize);
    // SAFETY: what the caller promises.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => libc::pwrite(fd, ptr, len, offset as libc::off_t),
            None => libc::write(fd, ptr, len),
        }
    })
}

pub(super) unsafe fn readv(fd: RawFd, iov: *const libc::iovec, count: u32, offset: u64) -> i32 {
    // SAFETY: what the caller promises.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => libc::preadv(fd, iov, count as i32, offset as libc::off_t),
            None => libc::readv(fd, iov, count as i32),
        }
    })
}

pub(super) unsafe fn writev(fd: RawFd, iov: *const libc::iovec, count: u32, offset: u64) -> i32 {
    // SAFETY: what the caller promises.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => libc::pwritev(fd, iov, count as i32, offset as libc::off_t),
            None => libc::writev(fd, iov, count as i32),
        }
    })
}
