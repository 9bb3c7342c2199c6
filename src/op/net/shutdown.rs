//! Shutting a connection down.

use std::net::Shutdown as How;

use crate::driver::calls;
use crate::op::call::{Plain, plain_call};
use crate::op::future::Op;
use crate::op::source::Source;
use crate::os;

/// Shuts down the sending side of a connection, the receiving side, or both.
/// [`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html).
///
/// May be dropped in flight under every [policy](crate::DropPolicy): as it lends no memory, it is
/// cancelled, or comes to its end, at once.
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
pub type AsyncShutdown<'a> = Op<Plain<Shutdown, Source<'a>>>;

plain_call! {
    /// The system call of [`AsyncShutdown`].
    Shutdown = calls::net::SHUTDOWN, MAY_BE_DROPPED = true
}

impl<'a> AsyncShutdown<'a> {
    /// Shuts `source` down.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, how: How) -> Self {
        let how = match how {
            How::Read => os::SHUT_RD,
            How::Write => os::SHUT_WR,
            How::Both => os::SHUT_RDWR,
        };
        Op::plain(source.into(), [how as u64])
    }
}
