//! A transfer longer than one system call can make.

// # Why this file has `unsafe`
// It maps one piece of memory many times, so that a huge buffer costs little.

use crate::harness::Outcome;
use corio::buf::{IoBuf, IoBufMut};
use corio::fs::File;
use std::cell::Cell;
use std::rc::Rc;

every_driver! { a_transfer_of_more_than_two_gib_fills_all_of_it }

/// A buffer of 3 GiB in which every piece is the same memory.
struct Folded {
    start: *mut u8,
    filled: Rc<Cell<usize>>,
}

impl Folded {
    const LEN: usize = 3 << 30;
    const PIECE: usize = 1 << 24;

    fn new(filled: Rc<Cell<usize>>) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let memory = tempfile::tempfile_in("/dev/shm")?;
        memory.set_len(Self::PIECE as u64)?;
        let map = |at, len, flags, fd| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: either anywhere, or over a part of what the first call made.
            let start = unsafe { libc::mmap(at, len, access, flags, fd, 0) };
            if start == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(start) }
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = map(std::ptr::null_mut(), Self::LEN, flags, -1)?;
        for piece in 0..Self::LEN / Self::PIECE {
            let at = start.wrapping_byte_add(piece * Self::PIECE);
            map(at, Self::PIECE, libc::MAP_SHARED | libc::MAP_FIXED, memory.as_raw_fd())?;
        }
        Ok(Folded { start: start.cast(), filled })
    }
}

impl Drop for Folded {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and not used any more.
        unsafe { libc::munmap(self.start.cast(), Self::LEN) };
    }
}

// SAFETY: mapped, and so initialised, until it is dropped.
unsafe impl IoBuf for Folded {
    fn buf_ptr(&self) -> *const u8 {
        self.start
    }
    fn buf_len(&self) -> usize {
        Self::LEN
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Folded {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }
    fn buf_capacity(&self) -> usize {
        Self::LEN
    }
    unsafe fn set_filled(&mut self, n: usize) {
        self.filled.set(n);
    }
}

async fn a_transfer_of_more_than_two_gib_fills_all_of_it() -> Outcome {
    let filled = Rc::new(Cell::new(0));
    let zero = File::from(std::fs::File::open("/dev/zero")?);
    let (result, buf) = zero.read_exact_at(Folded::new(filled.clone())?, 0).await;
    result?;
    assert_eq!(filled.get(), Folded::LEN);
    drop(buf);
    Ok(())
}
