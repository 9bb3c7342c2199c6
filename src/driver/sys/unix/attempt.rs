//! Requests carried out without blocking.

// # Why this file has `unsafe`
// It makes system calls with memory that a request names.

use std::os::fd::RawFd;

#[cfg(target_os = "linux")]
use super::newer;
use super::{SigPipe, errno, large, option, retry};
use crate::driver::sys::Counted;
use crate::driver::{CURRENT_POSITION, Request, Target};

/// Makes a call on a file in non-blocking mode.
///
/// The socket handles of this crate are always in that mode. A file that came from elsewhere is put
/// into it for the duration of the call.
pub(in crate::driver) fn without_waiting(on: Target, call: impl FnOnce() -> i32) -> Counted<i32> {
    if on.nonblocking {
        return Counted::new(call(), 1);
    }
    // SAFETY: passes no memory.
    let mode = unsafe { libc::fcntl(on.fd, libc::F_GETFL) };
    if mode < 0 {
        return Counted::new(-errno(), 1);
    }
    if mode & libc::O_NONBLOCK != 0 {
        return Counted::new(call(), 2);
    }
    // SAFETY: passes no memory.
    if unsafe { libc::fcntl(on.fd, libc::F_SETFL, mode | libc::O_NONBLOCK) } < 0 {
        return Counted::new(-errno(), 2);
    }
    let result = call();
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(on.fd, libc::F_SETFL, mode) };
    Counted::new(result, 4)
}

/// Carries a request out, or returns `-EAGAIN` where that would block.
///
/// # Safety
/// Clauses 1 and 2 of the [contract](crate::driver) hold for all memory that the request points to.
#[inline(always)]
pub(in crate::driver) unsafe fn attempt(request: Request, sigpipe: SigPipe) -> Counted<i32> {
    use Request::*;
    match request {
        Recv { fd, ptr, len, flags } => {
            // SAFETY: by clause 1 the buffer is in place, by clause 2 it is ours to write to.
            Counted::new(unsafe { recv_at_once(fd.fd, ptr, len, flags) }, 1)
        }
        Send { fd, ptr, len, flags } => {
            // SAFETY: by clause 1 the bytes are in place, by clause 2 nothing changes them.
            Counted::new(unsafe { send_at_once(fd.fd, ptr, len, flags) }, 1)
        }
        // SAFETY: this function's only item.
        request => unsafe { attempt_other(request, sigpipe) },
    }
}

/// Receives what the socket holds; `-EAGAIN` if that is nothing.
///
/// # Safety
/// `len` bytes at `ptr` are valid for writes.
#[inline(always)]
pub(in crate::driver) unsafe fn recv_at_once(fd: RawFd, ptr: *mut u8, len: u32, flags: i32) -> i32 {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: this function's only item.
    retry(|| unsafe { libc::recv(fd, ptr.cast(), len as usize, flags) })
}

/// Sends what the socket has room for; `-EAGAIN` if that is nothing.
///
/// # Safety
/// `len` bytes at `ptr` are initialised and valid for reads.
#[inline(always)]
pub(in crate::driver) unsafe fn send_at_once(
    fd: RawFd,
    ptr: *const u8,
    len: u32,
    flags: i32,
) -> i32 {
    // `MSG_WAITALL` is for rings alone, and Miri refuses it.
    let flags = if cfg!(miri) { flags & !libc::MSG_WAITALL } else { flags };
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: this function's only item.
    retry(|| unsafe { libc::send(fd, ptr.cast(), len as usize, flags) })
}

/// # Safety
/// As for [`attempt`].
unsafe fn attempt_other(request: Request, sigpipe: SigPipe) -> Counted<i32> {
    use Request::*;
    // SAFETY: in every arm the call gets only pointers of the request, with the lengths that belong
    // to them: by clause 1 that memory is in place, by clause 2 the call may use it.
    unsafe {
        match request {
            Recvmsg { fd, msg, flags } => {
                let flags = flags as i32 | libc::MSG_DONTWAIT;
                Counted::new(retry(|| libc::recvmsg(fd.fd, msg, flags)), 1)
            }
            Sendmsg { fd, msg, flags } => {
                let flags = flags as i32 | libc::MSG_DONTWAIT;
                Counted::new(retry(|| libc::sendmsg(fd.fd, msg, flags)), 1)
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
            Call { call, args, .. } => Counted::new(call.perform(args.as_ref()), 1),
            Poll { fd, events } => Counted::new(poll(fd.fd, events), 1),
            Sendfile { out, file, offset, len, pages, .. } => {
                super::sendfile(sigpipe, out, file, offset, len, pages)
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
                unreachable!("{request:?} has no call that does not block")
            }
        }
    }
}

/// Connects once: an interrupted connect continues by itself, and must not be repeated.
///
/// # Safety
/// `len` bytes at `addr` are initialised and valid for reads.
unsafe fn connect(fd: RawFd, addr: *const libc::sockaddr, len: libc::socklen_t) -> i32 {
    // SAFETY: this function's only item.
    match unsafe { libc::connect(fd, addr, len) } {
        0 => 0,
        _ => match errno() {
            libc::EINTR => -libc::EINPROGRESS,
            error => -error,
        },
    }
}

/// # Safety
/// `len` is a valid place, and as many bytes at `addr` as it says are valid for writes.
#[cfg(not(target_vendor = "apple"))]
unsafe fn accept(fd: RawFd, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> i32 {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: this function's only item.
    let accepted = retry(|| unsafe { libc::accept4(fd, addr, len, flags) as isize });
    #[cfg(target_os = "linux")]
    if newer::is_denied(accepted) {
        // SAFETY: this function's only item; a call that failed has written nothing.
        return unsafe { accept_in_steps(fd, addr, len) };
    }
    accepted
}

/// # Safety
/// As for the other hosts' version.
#[cfg(target_vendor = "apple")]
unsafe fn accept(fd: RawFd, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> i32 {
    // SAFETY: this function's only item.
    unsafe { accept_in_steps(fd, addr, len) }
}

/// Accepts by `accept(2)`, and sets the modes afterwards.
///
/// # Safety
/// As for [`accept`].
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
#[cfg_attr(target_os = "linux", cold)]
unsafe fn accept_in_steps(fd: RawFd, addr: *mut libc::sockaddr, len: *mut libc::socklen_t) -> i32 {
    // SAFETY: this function's only item.
    let accepted = retry(|| unsafe { libc::accept(fd, addr, len) as isize });
    if accepted >= 0 {
        // SAFETY: passes no memory but `one`. None of these fails on a socket just accepted.
        unsafe {
            libc::fcntl(accepted, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(accepted, libc::F_SETFL, libc::O_NONBLOCK);
        }
        #[cfg(target_vendor = "apple")]
        // SAFETY: `one` is as long as `len` says.
        unsafe {
            let one = 1i32;
            let (one, len) = ((&raw const one).cast(), size_of::<i32>() as libc::socklen_t);
            libc::setsockopt(accepted, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, one, len);
        }
    }
    accepted
}

/// `poll(2)` without waiting: the events that have occurred, or `-EAGAIN`.
pub(in crate::driver) fn poll(fd: RawFd, events: u32) -> i32 {
    let mut poll = libc::pollfd { fd, events: events as i16, revents: 0 };
    // SAFETY: one valid entry.
    match retry(|| unsafe { libc::poll(&mut poll, 1, 0) as isize }) {
        0 => -libc::EAGAIN,
        1 if poll.revents & libc::POLLNVAL != 0 => -libc::EBADF,
        1 => i32::from(poll.revents),
        error => error,
    }
}

/// Returns the outcome of a connect whose socket was reported ready: 0, a negated error number, or
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
            // It has failed, and the cause was read from `SO_ERROR` elsewhere.
            libc::ENOTCONN => -libc::ECONNABORTED,
            error => -error,
        },
    }
}

/// Reads file contents that are in memory (`RWF_NOWAIT`); `-EAGAIN` if none are, or if the host
/// cannot say.
///
/// # Safety
/// `len` bytes at `ptr` are valid for writes.
#[cfg(target_os = "linux")]
pub(in crate::driver) unsafe fn read_cached(fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> i32 {
    if !super::host::has_reliable_nowait() {
        return -libc::EAGAIN;
    }
    let iov = libc::iovec { iov_base: ptr.cast(), iov_len: len as usize };
    // `CURRENT_POSITION` becomes -1, which means the same to the kernel.
    let offset = offset as i64;
    // SAFETY: memory that is valid for writes by this function's only item.
    match unsafe { newer::read_nowait(fd, &iov, offset) } {
        // This file system or this kernel has no such reads, or a sandbox denies them.
        error if error == -libc::EOPNOTSUPP || newer::is_denied(error) => -libc::EAGAIN,
        result => result,
    }
}

/// Reads the metadata of an open file from memory, and returns `true` if that is up to date: where
/// the kernel alone changes files, as on the usual file systems of block devices.
///
/// # Safety
/// - `path` ends with a NUL and is valid for reads;
/// - `out` is valid for writes.
#[cfg(target_os = "linux")]
pub(in crate::driver) unsafe fn stat_at_once(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    out: *mut libc::statx,
) -> bool {
    let flags = flags | libc::AT_STATX_DONT_SYNC;
    // SAFETY: item 1 for the path, item 2 for `out`, which is read only after the call filled it.
    unsafe {
        // A path that is not empty would be looked up, which may block.
        flags & libc::AT_EMPTY_PATH != 0
            && *path == 0
            && newer::statx(dir, path, flags, super::STATX_MASK, out) == 0
            && super::host::is_local((*out).stx_dev_major, (*out).stx_dev_minor)
    }
}

/// This host has no such reads.
///
/// # Safety
/// Nothing is required; on Linux it is.
#[cfg(not(target_os = "linux"))]
pub(in crate::driver) unsafe fn read_cached(_: RawFd, _: *mut u8, _: u32, _: u64) -> i32 {
    -libc::EAGAIN
}

/// Makes a call with an offset, or without where the file has no positions (a pipe).
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

/// # Safety
/// `len` bytes at `ptr` are valid for writes.
pub(super) unsafe fn read(fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> i32 {
    let (ptr, len) = (ptr.cast::<libc::c_void>(), len as usize);
    // SAFETY: this function's only item.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => large::pread(fd, ptr, len, offset as large::Offset),
            None => libc::read(fd, ptr, len),
        }
    })
}

/// # Safety
/// `len` bytes at `ptr` are initialised and valid for reads.
pub(super) unsafe fn write(fd: RawFd, ptr: *const u8, len: u32, offset: u64) -> i32 {
    let (ptr, len) = (ptr.cast::<libc::c_void>(), len as usize);
    // SAFETY: this function's only item.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => large::pwrite(fd, ptr, len, offset as large::Offset),
            None => libc::write(fd, ptr, len),
        }
    })
}

/// # Safety
/// `iov` points to `count` entries, of memory that is valid for writes.
pub(super) unsafe fn readv(fd: RawFd, iov: *const libc::iovec, count: u32, offset: u64) -> i32 {
    // SAFETY: this function's only item.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => large::preadv(fd, iov, count as i32, offset as large::Offset),
            None => libc::readv(fd, iov, count as i32),
        }
    })
}

/// # Safety
/// `iov` points to `count` entries, of initialised memory that is valid for reads.
pub(super) unsafe fn writev(fd: RawFd, iov: *const libc::iovec, count: u32, offset: u64) -> i32 {
    // SAFETY: this function's only item.
    at(offset, |offset| unsafe {
        match offset {
            Some(offset) => large::pwritev(fd, iov, count as i32, offset as large::Offset),
            None => libc::writev(fd, iov, count as i32),
        }
    })
}
