//! A buffer of one block, aligned for `O_DIRECT`, for each of the runtimes.

// # Why this file has `unsafe`
// The buffer traits of the runtimes are `unsafe`: the bytes must stay in place.

use std::mem::MaybeUninit;

use crate::program::BLOCK;

#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// 4 KiB, aligned to 4 KiB.
pub(crate) struct Block(Box<Aligned>);

impl Block {
    pub(crate) fn new() -> Self {
        Block(Box::new(Aligned([0; BLOCK])))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0.0
    }

    fn start(&mut self) -> *mut u8 {
        self.0.0.as_mut_ptr()
    }
}

// SAFETY: initialised heap memory of a fixed size, which stays in place until the box is dropped.
unsafe impl corio::buf::IoBuf for Block {
    fn buf_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn buf_len(&self) -> usize {
        BLOCK
    }
}

// SAFETY: as above.
unsafe impl corio::buf::IoBufMut for Block {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.start()
    }

    fn buf_capacity(&self) -> usize {
        BLOCK
    }

    unsafe fn set_filled(&mut self, _: usize) {}
}

// SAFETY: as above.
unsafe impl monoio::buf::IoBufMut for Block {
    fn write_ptr(&mut self) -> *mut u8 {
        self.start()
    }

    fn bytes_total(&mut self) -> usize {
        BLOCK
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

impl compio::buf::IoBuf for Block {
    fn as_init(&self) -> &[u8] {
        self.bytes()
    }
}

impl compio::buf::SetLen for Block {
    unsafe fn set_len(&mut self, _: usize) {}
}

impl compio::buf::IoBufMut for Block {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: `start` points to `BLOCK` bytes that are borrowed mutably by `self`; callers must
        // not write uninitialised bytes, by the contract of `as_uninit`.
        unsafe { std::slice::from_raw_parts_mut(self.start().cast(), BLOCK) }
    }
}

// SAFETY: as above.
unsafe impl tokio_uring::buf::IoBuf for Block {
    fn stable_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        BLOCK
    }

    fn bytes_total(&self) -> usize {
        BLOCK
    }
}

// SAFETY: as above.
unsafe impl tokio_uring::buf::IoBufMut for Block {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start()
    }

    unsafe fn set_init(&mut self, _: usize) {}
}
