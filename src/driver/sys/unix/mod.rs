//! System calls of Unix hosts.

// # Why this file has `unsafe`
// It makes system calls.

mod attempt;
mod block;
mod ending;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod newer;
#[cfg(target_os = "linux")]
mod open;
#[cfg(target_os = "linux")]
mod reset;
mod resident;
#[cfg(target_os = "linux")]
mod send_queue;
mod sendfile;
mod sigpipe;
#[cfg(target_os = "linux")]
mod splice;

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

#[cfg(target_os = "linux")]
pub(in crate::driver) use attempt::stat_at_once;
pub(in crate::driver) use attempt::{attempt, connected, read_cached, without_waiting};
#[cfg(corio_uring)]
pub(in crate::driver) use attempt::{poll, recv_at_once, send_at_once};
pub(in crate::driver) use block::block;
pub(in crate::driver) use ending::{ending, open_waits};
#[cfg(target_os = "linux")]
pub(in crate::driver) use open::Opener;
#[cfg(corio_uring)]
pub(in crate::driver) use open::is_pipe;
#[cfg(target_os = "linux")]
pub(in crate::driver) use reset::was_reset;
#[cfg(target_os = "linux")]
pub(in crate::driver) use send_queue::{is_live_tcp, send_queue_len};
pub(in crate::driver) use sendfile::sendfile;
pub(in crate::driver) use sigpipe::{SigPipe, SigPipeBlock};
#[cfg(target_os = "linux")]
pub(in crate::driver) use splice::splice;

use super::Kind;
use crate::driver::Request;

/// Calls whose offsets and sizes have 64 bits. By their plain names they have 32 bits on 32-bit
/// Linux; all other hosts have no second kind.
pub(in crate::driver) mod large {
    #[cfg(not(target_os = "linux"))]
    pub(in crate::driver) use libc::{
        fstat, fstatat, ftruncate, off_t as Offset, openat, pread, preadv, pwrite, pwritev,
        stat as Stat,
    };
    #[cfg(target_os = "linux")]
    pub(in crate::driver) use libc::{
        fstat64 as fstat, fstatat64 as fstatat, ftruncate64 as ftruncate, off64_t as Offset,
        openat64 as openat, pread64 as pread, preadv64 as preadv, pwrite64 as pwrite,
        pwritev64 as pwritev, sendfile64 as sendfile, stat64 as Stat,
    };
}

/// The metadata that `statx(2)` is asked for.
#[cfg(target_os = "linux")]
pub(in crate::driver) const STATX_MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// Returns the calling thread's last error number.
fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Makes a call, repeated while signals interrupt it; returns its result, or a negated error
/// number.
#[inline(always)]
pub(in crate::driver) fn retry(mut call: impl FnMut() -> isize) -> i32 {
    loop {
        match call() {
            result @ 0.. => return result as i32,
            _ => match errno() {
                libc::EINTR => {}
                error => return -error,
            },
        }
    }
}

/// Returns the kind of a file; any kind for a bad fd, which the next call will report.
pub(in crate::driver) fn kind(fd: RawFd) -> Kind {
    let mut stat = std::mem::MaybeUninit::<large::Stat>::uninit();
    // SAFETY: `stat` is valid for writes.
    if unsafe { large::fstat(fd, stat.as_mut_ptr()) } < 0 {
        return Kind::Other;
    }
    // SAFETY: `fstat` has succeeded, so it has filled it.
    match unsafe { stat.assume_init() }.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::Disk,
        libc::S_IFSOCK => socket_kind(fd),
        _ => Kind::Other,
    }
}

/// Duplicates the fd of the directory that a path starts from; `None` for the current directory.
pub(in crate::driver) fn duplicate_dir(dir: RawFd) -> std::io::Result<Option<OwnedFd>> {
    if dir == libc::AT_FDCWD {
        return Ok(None);
    }
    if dir < 0 {
        return Err(std::io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not negative; a number that is not open makes the duplication fail.
    unsafe { BorrowedFd::borrow_raw(dir) }.try_clone_to_owned().map(Some)
}

/// Returns `true` for a message to the path of a Unix socket: the queue of that socket may be full
/// although the sender's own socket is writable.
///
/// # Safety
/// The memory that the request points to is in place (clause 1 of the [contract](crate::driver)).
#[inline(always)]
pub(in crate::driver) unsafe fn is_to_unix_address(request: &Request) -> bool {
    let Request::Sendmsg { msg, .. } = *request else { return false };
    // SAFETY: the header is in place, and so is its address, which starts with the family.
    unsafe {
        let name = (*msg).msg_name.cast::<libc::sockaddr>();
        !name.is_null()
            && (*msg).msg_namelen as usize >= size_of::<libc::sa_family_t>()
            && i32::from((*name).sa_family) == libc::AF_UNIX
    }
}

/// Returns the kind of a socket.
pub(in crate::driver) fn socket_kind(fd: RawFd) -> Kind {
    // Only the Linux selector makes use of it; Miri does not know this option.
    #[cfg(all(target_os = "linux", not(miri)))]
    if option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Ok(libc::IPPROTO_TCP) {
        return Kind::Tcp;
    }
    #[cfg(any(not(target_os = "linux"), miri))]
    let _ = fd;
    Kind::Other
}

/// Returns `true` if a socket carries a stream of bytes, not messages.
pub(in crate::driver) fn is_stream(fd: RawFd) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// Returns an integer option of a socket, or an error number.
fn option(fd: RawFd, level: i32, name: i32) -> Result<i32, i32> {
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: `value` is as long as `len` says.
    match unsafe { libc::getsockopt(fd, level, name, place, &mut len) } {
        0 => Ok(value),
        _ => Err(errno()),
    }
}

/// Blocks all signals on this thread, so that the program's own threads handle them.
pub(in crate::driver) fn block_signals() {
    if cfg!(miri) {
        return; // It has no signals.
    }
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` fills the set that is then passed on.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// Returns the number of files that this process may have open.
pub(in crate::driver) fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    #[allow(clippy::useless_conversion)] // The type differs from host to host.
    u64::try_from(limit.rlim_cur).unwrap_or(u64::MAX)
}
