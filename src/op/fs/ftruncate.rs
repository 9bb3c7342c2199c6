//! Setting a file's length.

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::source::Source;

/// Sets a file's length. [`ftruncate(2)`](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
///
/// Kernel: `IORING_OP_FTRUNCATE` since Linux 6.9; before, a thread makes the system call.
///
/// # Examples
/// ```
/// use corio::op::AsyncFtruncate;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// AsyncFtruncate::new(&file, 100).await?;
/// assert_eq!(file.metadata()?.len(), 100);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_FTRUNCATE")]
#[doc(alias = "set_len")]
pub type AsyncFtruncate<'a> = Op<Plain<Ftruncate, Source<'a>>>;

plain_call! {
    /// The system call of [`AsyncFtruncate`].
    Ftruncate = calls::fs::FTRUNCATE
}

impl<'a> AsyncFtruncate<'a> {
    /// Makes `source` exactly `len` bytes long.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, len: u64) -> Self {
        Op::plain(source.into(), [len])
    }
}
