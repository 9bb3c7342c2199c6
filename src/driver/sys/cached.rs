//! Reads of file contents that are in memory already, by one system call after the other.

// # Why this file has `unsafe`
// It passes memory on to system calls.

use super::read_cached;
use crate::driver::CURRENT_POSITION;
use crate::os::RawFd;

/// The outcome of [`read_all_cached`].
pub(in crate::driver) struct CachedRead {
    /// How many bytes have been read.
    pub(in crate::driver) read: u32,
    /// The negated error number that ended the reads before all was read or the end of the file was
    /// reached: `-EAGAIN` where the rest is not in memory.
    pub(in crate::driver) stopped: Option<i32>,
    pub(in crate::driver) syscalls: u64,
}

/// Reads as much as is in memory: all of it, or up to the end of the file, or up to an error.
///
/// # Safety
/// `len` bytes at `ptr` are valid for writes.
pub(in crate::driver) unsafe fn read_all_cached(
    fd: RawFd,
    ptr: *mut u8,
    len: u32,
    offset: u64,
) -> CachedRead {
    let mut cached = CachedRead { read: 0, stopped: None, syscalls: 0 };
    loop {
        cached.syscalls += 1;
        let place = ptr.wrapping_add(cached.read as usize);
        // SAFETY: `read` bytes of `len` are filled, so the rest is valid for writes, too.
        match unsafe { read_cached(fd, place, len - cached.read, advance(offset, cached.read)) } {
            // The end of the file.
            0 => return cached,
            read @ 1.. => cached.read += read as u32,
            error => {
                cached.stopped = Some(error);
                return cached;
            }
        }
        if cached.read == len {
            return cached;
        }
    }
}

/// The offset at which a read continues that has moved `done` bytes.
pub(in crate::driver) fn advance(offset: u64, done: u32) -> u64 {
    if offset == CURRENT_POSITION { offset } else { offset.saturating_add(done.into()) }
}
