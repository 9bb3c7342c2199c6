//! Buffers of the crate `bytes`.

// # Why this file has `unsafe`
// It signs the contracts of the buffer traits.

use bytes::{Bytes, BytesMut};

use super::{IoBuf, IoBufMut};

// SAFETY: a `Bytes` leads to immutable memory, which it keeps; pointer and length change by `&mut`
// methods alone (1, 2), and its bytes are initialised (3). Two fields are read (4).
unsafe impl IoBuf for Bytes {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: pointer, length and capacity change by `&mut` methods other than `as_mut_ptr` alone (1,
// 2); its `len` bytes are initialised (3). Fields are read (4).
unsafe impl IoBuf for BytesMut {
    fn buf_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn buf_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the same memory (1), whose capacity only a reservation changes (2); that many bytes are
// this value's alone, though others may have the rest of the block (3). Fields are read (4).
unsafe impl IoBufMut for BytesMut {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn buf_capacity(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_filled(&mut self, n: usize) {
        // SAFETY: this function's items: `n` bytes are initialised, and within the capacity.
        unsafe { self.set_len(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IoContext;
    use crate::net::UnixStream;

    #[test]
    fn bytes_are_sent_and_received() -> std::io::Result<()> {
        let mut context = IoContext::new(8).expect("a context");
        context.block_on(async {
            let (a, b) = UnixStream::pair()?;
            let hello = Bytes::from_static(b"-hello-").slice(1..6);
            a.send_all(hello).await.0?;
            let (result, buf) = b.recv(BytesMut::with_capacity(64)).await;
            assert_eq!((result?, &buf[..]), (5, &b"hello"[..]));
            let mut buf = buf;
            let rest = buf.split_off(2);
            a.send_all(rest).await.0?;
            let (result, buf) = b.recv(buf).await;
            assert_eq!((result?, &buf[..]), (2, &b"ll"[..]), "its own two bytes are its capacity");
            Ok(())
        })
    }
}
