//! Shutting a connection down.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::net::Shutdown as How;
use std::ops::ControlFlow;

use crate::driver::{Args, OpCode, Request, calls};
use crate::op::call::plain;
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;
use crate::os;

/// Shuts down the sending side of a connection, the receiving side, or both.
/// [`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html).
///
/// # Examples
/// ```
/// use std::{net::Shutdown, os::unix::net::UnixStream};
/// use corio::op::{AsyncRecv, AsyncShutdown};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, b) = UnixStream::pair()?;
/// AsyncShutdown::new(&a, Shutdown::Write).await?;
/// assert_eq!(AsyncRecv::new(&b, vec![0; 8]).await.0?, 0);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_SHUTDOWN")]
pub type AsyncShutdown<'a> = Op<Shutdown<'a>>;

/// The operation of [`AsyncShutdown`].
#[derive(Debug)]
pub struct Shutdown<'a> {
    source: Source<'a>,
    args: Args,
}

// SAFETY: 1. The arguments are a field that nothing else borrows, and contain no pointers.
// 2. `source` is held. 3. A held source names its file without its borrow. 4. The result brings
// nothing.
unsafe impl Operation for Shutdown<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Shutdown;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        self.args.files[0] = self.source.target();
        plain(&calls::net::SHUTDOWN, &mut self.args)
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Shutdown<'a>> {
    /// Shuts `source` down.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, how: How) -> Self {
        let how = match how {
            How::Read => os::SHUT_RD,
            How::Write => os::SHUT_WR,
            How::Both => os::SHUT_RDWR,
        };
        let args = Args { words: [how as u64, 0, 0, 0], ..Args::NONE };
        Op::of(Shutdown { source: source.into(), args })
    }
}
