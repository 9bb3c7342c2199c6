//! Reserving and freeing space of a file.

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::source::Source;

/// Reserves or frees space of a file.
/// [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html).
///
/// # Errors
/// What `fallocate(2)` reports. On other hosts than Linux only the mode 0 exists, and other modes
/// are `EOPNOTSUPP`; a host that can't reserve space extends the file instead.
///
/// # Examples
/// ```
/// use corio::op::AsyncFallocate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFallocate::new(&file, 0, 0, 4096).await?;
/// assert_eq!(file.metadata()?.len(), 4096);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FALLOCATE")]
#[doc(alias = "posix_fallocate")]
pub type AsyncFallocate<'a> = Op<Plain<Fallocate, Source<'a>>>;

plain_call! {
    /// The system call of [`AsyncFallocate`].
    Fallocate = calls::fs::FALLOCATE
}

impl<'a> AsyncFallocate<'a> {
    /// Works on `len` bytes from `offset`; `mode` is 0 to reserve, or `FALLOC_FL_*` flags.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, mode: i32, offset: u64, len: u64) -> Self {
        Op::plain(source.into(), [mode as u64, offset, len])
    }
}
