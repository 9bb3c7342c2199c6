//! Opening a file.

// # Why this file has `unsafe`
// It signs the contract of `Operation` and takes over the fd that the kernel made.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::path::PathAt;
use crate::op::source::Source;
use crate::os::{self, OwnedFd};

/// Opens a file. [`openat(2)`](https://man7.org/linux/man-pages/man2/open.2.html).
///
/// Returns the fd, close-on-exec. If the future is dropped when it holds an fd, that is closed.
///
/// The open of a FIFO waits for its other end, unless `O_NONBLOCK` is among the flags. Where a
/// thread waits (the readiness driver), one that was cancelled leaves that thread in the FIFO until
/// the other end comes, for which it counts as this one. On io_uring a device is opened with
/// `O_NONBLOCK` first, so that the open of a serial line does not wait for its carrier.
///
/// # Examples
/// ```
/// use corio::op::AsyncOpen;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let fd = AsyncOpen::new("Cargo.toml", libc::O_RDONLY, 0).await?;
/// assert!(std::fs::File::from(fd).metadata()?.is_file());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_OPENAT")]
#[doc(alias = "openat")]
pub type AsyncOpen<'a> = Op<Open<'a>>;

/// The operation of [`AsyncOpen`].
pub struct Open<'a> {
    path: PathAt<'a>,
    flags: i32,
    mode: u32,
}

// SAFETY: 1. The path lies in the value, or in a heap block that it owns; the call only reads it.
// 2. The directory is held. 3. A held source names its file without its borrow. 4. A result that is
// not negative is the number of an fd that this call has made.
unsafe impl Operation for Open<'_> {
    type Output = io::Result<OwnedFd>;
    const CODE: OpCode = OpCode::Open;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.path.hold()
    }
    fn request(&mut self) -> Request {
        Request::Open {
            dir: self.path.dir(),
            path: self.path.as_ptr(),
            flags: self.flags | os::O_CLOEXEC,
            mode: self.mode,
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        // SAFETY: the call has made this fd, and nothing else knows it.
        io_result(result).map(|fd| unsafe { os::owned_file(fd as i32) })
    }
}

impl<'a> Op<Open<'a>> {
    /// Opens `path` with `O_*` flags; `mode` is the permissions of a file that is created.
    #[track_caller]
    pub fn new(path: impl AsRef<Path>, flags: i32, mode: u32) -> Self {
        Op::of(Open { path: PathAt::new(None, path.as_ref()), flags, mode })
    }

    /// Opens `path`, which starts from the open directory `dir` if it is relative.
    #[track_caller]
    pub fn at(dir: impl Into<Source<'a>>, path: impl AsRef<Path>, flags: i32, mode: u32) -> Self {
        Op::of(Open { path: PathAt::new(Some(dir.into()), path.as_ref()), flags, mode })
    }
}

impl fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("flags", &self.flags).finish_non_exhaustive()
    }
}
