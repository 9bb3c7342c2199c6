//! Which pages of a file are in memory: those that are not would block a `sendfile(2)`.

// # Why this file has `unsafe`
// It makes system calls.

use std::os::fd::RawFd;

use super::{kind, large, retry};
use crate::driver::sys::{Counted, Kind};

/// Returns `false` if `len` bytes from `offset` are not all in memory. `true`: they are, or the
/// host cannot tell.
///
/// `cachestat(2)` (6.5) counts pages, also those that are still being read ahead; a read of the
/// last byte that does not wait (`RWF_NOWAIT`) shows whether these have arrived.
#[cfg(target_os = "linux")]
pub(super) fn are_resident(file: RawFd, offset: u64, len: u32) -> Counted<bool> {
    let end = offset.saturating_add(len.into());
    if len == 0 || i64::try_from(end).is_err() {
        return Counted::new(true, 0);
    }
    let last = end - 1;
    // SAFETY: passes no memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    match cached_pages(file, offset, len) {
        Some(pages) if pages <= last / page - offset / page => Counted::new(false, 1),
        Some(_) => Counted::new(is_byte_resident(file, last), 2),
        // Of the range, its two ends are looked at.
        None if !is_byte_resident(file, offset) => Counted::new(false, 2),
        None => Counted::new(is_byte_resident(file, last), 3),
    }
}

/// The other hosts cannot tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn are_resident(_: RawFd, _: u64, _: u32) -> Counted<bool> {
    Counted::new(true, 0)
}

/// Returns how many pages of a range are in memory; `None` if this kernel cannot tell, a sandbox
/// forbids it, or the file has no pages.
#[cfg(target_os = "linux")]
fn cached_pages(file: RawFd, offset: u64, len: u32) -> Option<u64> {
    /// The call's number on all architectures but MIPS, which has no call of this number.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, u64::from(len)];
    // Pages in memory, dirty, being written, evicted, evicted recently.
    let mut counts = [0u64; 5];
    let (range, place) = (&raw const range, &raw mut counts);
    // SAFETY: the two are laid out as `cachestat_range` and `cachestat`, structures of such words.
    let result = unsafe { libc::syscall(CACHESTAT, file, range, place, 0) };
    (result == 0).then_some(counts[0])
}

/// Returns `false` if a byte is known not to be in memory.
#[cfg(target_os = "linux")]
fn is_byte_resident(file: RawFd, offset: u64) -> bool {
    let mut byte = 0u8;
    let iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let tells = super::host::has_reliable_nowait();
    // SAFETY: one byte is valid for writes.
    !tells || unsafe { super::newer::read_nowait(file, &iov, offset as i64) } != -libc::EAGAIN
}

/// Reads a part of a file of a disk, so that it is in memory afterwards. Returns `-EINTR`: nothing
/// was sent, and the transfer is to be tried again.
pub(super) fn fetch(file: RawFd, offset: u64, len: u32) -> i32 {
    let mut buffer = [0u8; 32 * 1024];
    let end = offset.saturating_add(len.into());
    // Reading another kind of file may take something from it.
    let mut at = if kind(file) == Kind::Disk { offset } else { end };
    while at < end {
        let Ok(position) = large::Offset::try_from(at) else { break };
        let (place, room) = (buffer.as_mut_ptr().cast(), buffer.len().min((end - at) as usize));
        // SAFETY: `room` is at most the length of the buffer.
        match retry(|| unsafe { large::pread(file, place, room, position) }) {
            read @ 1.. => at += read as u64,
            // The transfer reports the error, or the end.
            _ => break,
        }
    }
    -libc::EINTR
}
