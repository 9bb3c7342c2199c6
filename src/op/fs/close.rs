//! Closing a file.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{Ending, OpCode, Request};
use crate::op::descriptor::{Descriptor, LeakedOperation};
use crate::op::future::{Op, Operation, io_result};
use crate::os::OwnedFd;

/// Closes a file and returns the errors of the file system.
/// [`close(2)`](https://man7.org/linux/man-pages/man2/close.2.html).
///
/// The fd is gone afterwards in any case. A close in progress is not cancelled but waited for, with
/// one exception: that of a socket with a linger time, or of a terminal or another device, may wait
/// for longer than a disk takes. If such a one is cancelled, it goes on without the operation. No
/// close holds the context's thread up.
///
/// Dropping a handle closes it too, without waiting, not even for a linger time; this operation is
/// for callers that need the errors, or to linger.
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
    file: Result<Descriptor, LeakedOperation>,
    /// The driver has the request, at whose end the fd is closed.
    submitted: bool,
}

// SAFETY: 1. There are no pointers. 2. The fd is owned, and after a submitted close it is given up
// without being closed again. 3. Nothing is borrowed. 4. The result brings nothing.
unsafe impl Operation for Close {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Close;

    fn prepare(&mut self) -> ControlFlow<i32> {
        match self.file {
            Ok(_) => ControlFlow::Continue(()),
            // `finish` returns that error.
            Err(LeakedOperation) => ControlFlow::Break(0),
        }
    }
    fn request(&mut self) -> Request {
        self.submitted = true;
        match &self.file {
            Ok(file) => Request::Close { fd: file.raw(), ending: file.ending() },
            Err(LeakedOperation) => Request::Close { fd: -1, ending: Ending::AtOnce },
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        let file = self.file?;
        if self.submitted {
            // Linux has closed it, or does so at the end of the wait, whatever the result.
            file.forget_fd();
        }
        // Otherwise the close was refused before it started, and dropping the handle closes it.
        io_result(result).map(drop)
    }
}

impl Op<Close> {
    /// Closes `fd`.
    #[track_caller]
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Op::of(Close { file: Ok(Descriptor::new(fd.into())), submitted: false })
    }

    /// Closes the fd of a handle.
    #[track_caller]
    pub(crate) fn handle(descriptor: Descriptor) -> Self {
        Op::of(Close { file: descriptor.transfer(), submitted: false })
    }
}
