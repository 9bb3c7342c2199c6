//! System calls of Linux that a kernel may lack or a sandbox deny, each with what does the same by
//! older calls.
//!
//! Sandboxes answer `EPERM` (container runtimes), `EACCES`, or `ENOSYS`. All three count as a
//! denial. Where such a number is a call's own answer, the older call gives the same answer.

// # Why this file has `unsafe`
// It makes system calls.

use std::os::fd::RawFd;

use super::retry;

/// Returns `true` for a result by which a kernel without the call, or a sandbox, answers.
pub(in crate::driver) fn is_denied(result: i32) -> bool {
    matches!(-result, libc::ENOSYS | libc::EPERM | libc::EACCES)
}

/// Reads what is in memory, at an offset or at the file's position (-1). `preadv2(2)`, Linux 4.14.
///
/// # Safety
/// `iov` describes memory that is valid for writes.
pub(super) unsafe fn read_nowait(fd: RawFd, iov: &libc::iovec, offset: i64) -> i32 {
    // By number, as not every C library has the function. The kernel takes the offset as two
    // words; where one word is enough, it ignores the second.
    let (low, high) = (offset as libc::c_long, (offset >> 32) as libc::c_long);
    let (iov, flags) = (&raw const *iov, libc::RWF_NOWAIT);
    // SAFETY: this function's only item, for one entry.
    retry(|| unsafe {
        libc::syscall(libc::SYS_preadv2, fd, iov, 1usize, low, high, flags) as isize
    })
}

/// Reads metadata. `statx(2)`, Linux 4.11.
///
/// # Safety
/// - `path` ends with a NUL and is valid for reads;
/// - `out` is valid for writes.
pub(super) unsafe fn statx(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    mask: u32,
    out: *mut libc::statx,
) -> i32 {
    // By number, as not every C library has the function.
    // SAFETY: both items.
    let result =
        retry(|| unsafe { libc::syscall(libc::SYS_statx, dir, path, flags, mask, out) as isize });
    // The older call cannot be kept from asking another host, which takes a thread.
    if !is_denied(result) || flags & libc::AT_STATX_DONT_SYNC != 0 {
        return result;
    }
    // SAFETY: both items.
    unsafe { stat_by_older_call(dir, path, flags, out) }
}

/// Reads metadata without the time of creation.
///
/// # Safety
/// As for [`statx`].
#[cold]
unsafe fn stat_by_older_call(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    out: *mut libc::statx,
) -> i32 {
    let known = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | libc::AT_SYMLINK_NOFOLLOW;
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: the path by item 1; `stat` is valid for writes.
    let result =
        retry(|| unsafe { libc::fstatat64(dir, path, stat.as_mut_ptr(), flags & known) as isize });
    if result == 0 {
        // SAFETY: the call has filled `stat`; item 2 for `out`.
        unsafe { out.write(converted(&stat.assume_init())) };
    }
    result
}

#[allow(clippy::unnecessary_cast)] // The types differ from one processor to the other.
fn converted(stat: &libc::stat64) -> libc::statx {
    // SAFETY: the structure has integers only, for which zeros are valid.
    let mut to: libc::statx = unsafe { std::mem::zeroed() };
    let time = |seconds, nanos| {
        // SAFETY: as above.
        let mut time: libc::statx_timestamp = unsafe { std::mem::zeroed() };
        (time.tv_sec, time.tv_nsec) = (seconds, nanos);
        time
    };
    to.stx_mask = libc::STATX_BASIC_STATS;
    to.stx_mode = stat.st_mode as u16;
    to.stx_nlink = stat.st_nlink as u32;
    (to.stx_uid, to.stx_gid) = (stat.st_uid, stat.st_gid);
    (to.stx_ino, to.stx_size) = (stat.st_ino as u64, stat.st_size as u64);
    (to.stx_blocks, to.stx_blksize) = (stat.st_blocks as u64, stat.st_blksize as u32);
    to.stx_atime = time(stat.st_atime as i64, stat.st_atime_nsec as u32);
    to.stx_mtime = time(stat.st_mtime as i64, stat.st_mtime_nsec as u32);
    to.stx_ctime = time(stat.st_ctime as i64, stat.st_ctime_nsec as u32);
    let (dev, rdev) = (stat.st_dev as libc::dev_t, stat.st_rdev as libc::dev_t);
    (to.stx_dev_major, to.stx_dev_minor) = (libc::major(dev) as u32, libc::minor(dev) as u32);
    (to.stx_rdev_major, to.stx_rdev_minor) = (libc::major(rdev) as u32, libc::minor(rdev) as u32);
    to
}
