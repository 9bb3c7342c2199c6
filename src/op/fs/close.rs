//! Closing a file.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{OpCode, Request};
use crate::op::descriptor::{Descriptor, LeakedOperation};
use crate::op::future::{Op, Operation, io_result};
use crate::os::{AsRawFd, IntoRawFd, OwnedFd};

/// Closes a file and returns the errors of the file system.
/// [`close(2)`](https://man7.org/linux/man-pages/man2/close.2.html).
///
/// The fd is gone afterwards in any case, so a close in progress is not cancelled but waited for.
/// Dropping a handle closes it too, without waiting; this operation is for callers that need the
/// errors.
///
/// # Examples
/// ```
/// use corio::op::AsyncClose;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// AsyncClose::new(tempfile::tempfile()?).await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_CLOSE")]
pub type AsyncClose = Op<Close>;

/// The operation of [`AsyncClose`].
#[derive(Debug)]
pub struct Close {
    fd: Result<OwnedFd, LeakedOperation>,
    /// The driver has the request. It never cancels it: the fd is gone at the end.
    submitted: bool,
}

// SAFETY: 1. There are no pointers. 2. The fd is owned, and after a submitted close it is given up
// without being closed again. 3. Nothing is borrowed. 4. The result brings nothing.
unsafe impl Operation for Close {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Close;

    fn prepare(&mut self) -> ControlFlow<i32> {
        match self.fd {
            Ok(_) => ControlFlow::Continue(()),
            // `finish` returns that error.
            Err(LeakedOperation) => ControlFlow::Break(0),
        }
    }
    fn request(&mut self) -> Request {
        self.submitted = true;
        Request::Close { fd: self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd) }
    }
    fn finish(self, result: i32) -> Self::Output {
        let fd = self.fd?;
        if self.submitted {
            // Linux has closed it, whatever the result.
            let _ = fd.into_raw_fd();
        }
        // Otherwise the close was refused before it started, and dropping the fd closes it here.
        io_result(result).map(drop)
    }
}

impl Op<Close> {
    /// Closes `fd`.
    #[track_caller]
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Op::of(Close { fd: Ok(fd.into()), submitted: false })
    }

    /// Closes the fd of a handle.
    #[track_caller]
    pub(crate) fn handle(descriptor: Descriptor) -> Self {
        Op::of(Close { fd: descriptor.into_fd(), submitted: false })
    }
}
