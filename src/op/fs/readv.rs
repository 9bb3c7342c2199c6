//! Reading into several buffers.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::buf::{IoBufsMut, IoVecs};
use crate::driver::{OpCode, Request};
use crate::op::ahead;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::op::transfer::{all_filled, at, check_room};

/// Reads at an offset into several buffers, in order.
/// [`preadv(2)`](https://man7.org/linux/man-pages/man2/preadv.2.html).
///
/// A file without positions, such as a pipe, is read as by `readv(2)`, where `preadv(2)` fails.
///
/// Returns the number of bytes read, 0 at the end of the file.
///
/// # Errors
/// What `preadv(2)` reports; `InvalidInput` if the buffers have no room.
///
/// # Examples
/// ```
/// use corio::op::AsyncReadv;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = std::fs::File::open("Cargo.toml")?;
/// let (result, bufs) = AsyncReadv::new(&file, [[0; 1], [0; 1]], 0).await;
/// assert_eq!((result?, bufs), (2, [*b"[", *b"p"]));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_READV")]
#[doc(alias = "preadv")]
pub type AsyncReadv<'a, B> = Op<Readv<'a, B>>;

/// The operation of [`AsyncReadv`].
pub struct Readv<'a, B> {
    source: Source<'a>,
    bufs: B,
    vecs: IoVecs,
    offset: u64,
}

// SAFETY: 1. The list of buffers lies in `vecs`, of this value or on its heap; its entries lead
// into `bufs`, which the value owns and does not touch until `finish`. 2. `source` is held. 3. A
// held source names its file without its borrow. 4. The result is the number of bytes written, in
// order.
unsafe impl<B: IoBufsMut> Operation for Readv<'_, B> {
    type Output = (io::Result<usize>, B);
    const CODE: OpCode = OpCode::Readv;

    fn prepare(&mut self) -> ControlFlow<i32> {
        check_room(self.bufs.total_capacity())?;
        match self.source.hold_to_receive()? {
            Some(socket) => ahead::into_all(socket, &mut self.bufs),
            None => ControlFlow::Continue(()),
        }
    }
    fn request(&mut self) -> Request {
        self.vecs.fill_mut(&mut self.bufs);
        let (iov, count) = (self.vecs.as_mut_ptr(), self.vecs.len() as u32);
        Request::Readv { fd: self.source.target(), iov, count, offset: self.offset }
    }
    fn finish(mut self, result: i32) -> Self::Output {
        all_filled(&mut self.bufs, result);
        (io_result(result), self.bufs)
    }
}

impl<'a, B: IoBufsMut> Op<Readv<'a, B>> {
    /// Reads from `source`, starting `offset` bytes after the start of the file.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, bufs: B, offset: u64) -> Self {
        Op::of(Readv { source: source.into(), bufs, vecs: IoVecs::new(), offset: at(offset) })
    }
}
