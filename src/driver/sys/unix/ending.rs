//! How long a close may take, and which opens may wait for ever.
//!
//! A close does not block where nothing was written through that fd, and the file has a name: the
//! close of one without may free its space, which takes time. Some file systems (of the network, or
//! of a program) flush every file that is closed. A socket with a linger time waits for its peer, a
//! terminal until its output is taken, a block device until its cache is written.

// # Why this file has `unsafe`
// It makes the system calls.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};

use super::large;
#[cfg(target_os = "linux")]
use super::{host, open::cached_stat};
use crate::driver::seams::options;
use crate::driver::sys::Counted;
use crate::driver::{Ending, Request};

/// Returns how long the close of `file`, which is open, may take.
#[cfg(target_os = "linux")]
pub(in crate::driver) fn ending(file: RawFd) -> Counted<Ending> {
    let Some(stat) = cached_stat(file) else { return Counted::new(Ending::Disk, 1) };
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK if stat.stx_nlink > 0 => {
            // SAFETY: passes no memory.
            let mode = unsafe { libc::fcntl(file, libc::F_GETFL) };
            let ending = match mode & libc::O_ACCMODE {
                _ if mode < 0 => Ending::Disk,
                libc::O_RDONLY if host::is_local(stat.stx_dev_major, stat.stx_dev_minor) => {
                    Ending::AtOnce
                }
                libc::O_RDONLY => Ending::Flush,
                _ => Ending::Disk,
            };
            Counted::new(ending, 2)
        }
        // The devices of memory, such as `/dev/null`, have this number.
        libc::S_IFCHR if stat.stx_rdev_major == 1 => Counted::new(Ending::AtOnce, 1),
        kind => Counted::new(ending_of_kind(file, kind), 2),
    }
}

/// Returns how long the close of `file`, which is open, may take.
#[cfg(not(target_os = "linux"))]
pub(in crate::driver) fn ending(file: RawFd) -> Counted<Ending> {
    let mut stat = MaybeUninit::<large::Stat>::uninit();
    // SAFETY: `stat` is valid for writes.
    if unsafe { large::fstat(file, stat.as_mut_ptr()) } < 0 {
        return Counted::new(Ending::Disk, 1);
    }
    // SAFETY: `fstat` has succeeded, so it has filled it.
    let kind = unsafe { stat.assume_init() }.st_mode & libc::S_IFMT;
    Counted::new(ending_of_kind(file, kind), 2)
}

fn ending_of_kind(file: RawFd, kind: libc::mode_t) -> Ending {
    match kind {
        // SAFETY: the caller says that the file is open, and it stays so for this call.
        libc::S_IFSOCK if options::lingers(unsafe { BorrowedFd::borrow_raw(file) }) => {
            Ending::Waits
        }
        libc::S_IFSOCK | libc::S_IFIFO => Ending::AtOnce,
        libc::S_IFCHR | libc::S_IFBLK => Ending::Waits,
        _ => Ending::Disk,
    }
}

/// Returns `true` for an open that may wait for ever: of a FIFO, for its other end, or of a device.
///
/// # Safety
/// The path of the request ends with a NUL and is valid for reads.
pub(in crate::driver) unsafe fn open_waits(request: &Request) -> bool {
    let Request::Open { dir, path, flags, .. } = *request else { return false };
    if flags & (libc::O_NONBLOCK | libc::O_DIRECTORY) != 0 {
        return false;
    }
    let flags = if flags & libc::O_NOFOLLOW != 0 { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    let mut stat = MaybeUninit::<large::Stat>::uninit();
    // SAFETY: this function's only item for the path; `stat` is valid for writes, and filled if the
    // call succeeds, which is checked first.
    let kind = unsafe {
        if large::fstatat(dir, path, stat.as_mut_ptr(), flags) < 0 {
            return false;
        }
        stat.assume_init().st_mode & libc::S_IFMT
    };
    matches!(kind, libc::S_IFIFO | libc::S_IFCHR)
}
