//! Helpers of operations that move bytes: limits of one call, offsets, and progress.

// # Why this file has `unsafe`
// It records in buffers how many of their bytes the kernel has initialized.

use std::io;
use std::ops::ControlFlow;

use super::future::{failed, io_error};
use super::incomplete::Incomplete;
use crate::buf::{IoBufMut, IoBufsMut};
use crate::os;

/// Offset of a read or write at the file's own position, which it moves. Pipes and terminals have
/// no other.
pub(super) use crate::driver::CURRENT_POSITION;

/// The most bytes that one system call moves (`MAX_RW_COUNT`); of longer buffers a part is used.
const MAX_LEN: usize = 0x7fff_f000;

/// The length of a transfer that one system call can be asked for.
#[inline(always)]
pub(super) fn clamp(len: usize) -> u32 {
    len.min(MAX_LEN) as u32
}

/// Refuses to read or receive into no room at all: the result would be that of the end.
#[inline(always)]
pub(super) fn check_room(room: usize) -> ControlFlow<i32> {
    if room == 0 { failed(os::NO_ROOM) } else { ControlFlow::Continue(()) }
}

/// An offset as a request holds it. `u64::MAX` has another meaning there, and is beyond the end of
/// any file; its predecessor, which replaces it, is refused by the kernel as well.
#[inline(always)]
pub(super) fn at(offset: u64) -> u64 {
    offset.min(CURRENT_POSITION - 1)
}

/// Records in `buf` how many bytes a read or receive with this result has filled.
#[inline(always)]
pub(super) fn filled(buf: &mut impl IoBufMut, result: i32) {
    if result >= 0 {
        filled_by(buf, result as usize);
    }
}

/// Records in `buf` that the first `len` bytes are filled, perhaps by several system calls.
#[inline(always)]
pub(super) fn filled_by(buf: &mut impl IoBufMut, len: usize) {
    // SAFETY: the kernel has written that many bytes from the start of the buffer: results add up
    // to `len`, and each was the result of a request for the room behind the ones before.
    unsafe { buf.set_filled(len) };
}

/// Records in `bufs`, which are filled in order, how many bytes a vectored read or receive has
/// filled.
pub(super) fn all_filled(bufs: &mut impl IoBufsMut, result: i32) {
    if result >= 0 {
        // SAFETY: the kernel fills the buffers in order, and the result is the total number of
        // bytes written.
        unsafe { bufs.set_all_filled(result as usize) };
    }
}

/// Returns the entry of one buffer for a message's list; the kernel reads or writes `len` bytes
/// there.
pub(super) fn io_vec(ptr: *mut u8, len: u32) -> os::iovec {
    os::iovec { iov_base: ptr.cast(), iov_len: len as usize }
}

/// How much of a whole transfer has been moved.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) moved: u64,
    pub(super) wanted: u64,
}

impl Progress {
    pub(super) fn new(wanted: u64) -> Self {
        Progress { moved: 0, wanted }
    }

    /// Adds the result of one system call; `true`: there is more to move.
    #[inline(always)]
    pub(super) fn advance(&mut self, result: i32) -> bool {
        match result {
            1.. => {
                self.moved += result as u64;
                self.moved < self.wanted
            }
            _ => result == -os::EINTR,
        }
    }

    /// The outcome, given the result of the last system call.
    #[inline(always)]
    pub(super) fn outcome(&self, result: i32) -> io::Result<()> {
        if self.moved >= self.wanted { Ok(()) } else { Err(self.incomplete(result)) }
    }

    #[cold]
    fn incomplete(&self, result: i32) -> io::Error {
        let &Progress { moved, wanted } = self;
        let cause = (result < 0).then(|| io_error(-result));
        let kind = cause.as_ref().map_or(io::ErrorKind::UnexpectedEof, io::Error::kind);
        io::Error::new(kind, Incomplete { moved, wanted, cause })
    }
}
