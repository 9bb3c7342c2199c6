//! Operations on paths.
//!
//! # Why this file has `unsafe`
//! It takes fds and metadata out of what the kernel has written.

use crate::os::OwnedFd;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use super::future::{Op, Operation, io_result};
use super::source::Source;
use crate::driver::{OpCode, Request};
use crate::metadata::Metadata;
use crate::os;

/// Paths up to this length, with the NUL that ends them, cost no allocation.
const INLINE: usize = 120;

/// A path as the kernel wants it, stored within the operation.
enum CPath {
    Inline([u8; INLINE]),
    Heap(Box<[u8]>),
    /// It contains a NUL byte, so it names nothing.
    Invalid,
}

impl CPath {
    fn new(path: &Path) -> Self {
        // On Unix, and on Windows a form that leads back to the same path.
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.contains(&0) {
            return CPath::Invalid;
        }
        if bytes.len() < INLINE {
            let mut inline = [0; INLINE];
            inline[..bytes.len()].copy_from_slice(bytes);
            return CPath::Inline(inline);
        }
        let mut heap = Vec::with_capacity(bytes.len() + 1);
        heap.extend_from_slice(bytes);
        heap.push(0);
        CPath::Heap(heap.into_boxed_slice())
    }

    fn check(&self) -> Result<(), i32> {
        if matches!(self, CPath::Invalid) { Err(os::EINVAL) } else { Ok(()) }
    }

    fn as_ptr(&self) -> *const os::c_char {
        match self {
            CPath::Inline(bytes) => bytes.as_ptr().cast(),
            CPath::Heap(bytes) => bytes.as_ptr().cast(),
            CPath::Invalid => std::ptr::null(),
        }
    }
}

/// The directory that relative paths start from: an open one, or the current one.
fn hold_dir(dir: &mut Option<Source<'_>>) -> Result<(), i32> {
    dir.as_mut().map_or(Ok(()), Source::hold)
}

fn dir_fd(dir: &Option<Source<'_>>) -> i32 {
    dir.as_ref().map_or(os::AT_FDCWD, |dir| dir.target().fd)
}

/// Opens a file. [`openat(2)`](https://man7.org/linux/man-pages/man2/open.2.html).
///
/// Gives the fd, close-on-exec. If the future is dropped with an fd in it, that is closed.
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
pub type AsyncOpen<'a> = Op<Open<'a>>;

/// See [`AsyncOpen`].
pub struct Open<'a> {
    dir: Option<Source<'a>>,
    path: CPath,
    flags: i32,
    mode: u32,
}

impl Operation for Open<'_> {
    type Output = io::Result<OwnedFd>;
    const CODE: OpCode = OpCode::Open;

    fn prepare(&mut self) -> Result<(), i32> {
        self.path.check()?;
        hold_dir(&mut self.dir)
    }
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Open {
            dir: dir_fd(&self.dir),
            path: self.path.as_ptr(),
            flags: self.flags | os::O_CLOEXEC,
            mode: self.mode,
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        // SAFETY: the kernel has just made this fd for us.
        io_result(result).map(|fd| unsafe { os::owned_file(fd as i32) })
    }
}

impl<'a> Op<Open<'a>> {
    /// Opens `path` with `O_*` flags; `mode` is for files that are created.
    #[track_caller]
    pub fn new(path: impl AsRef<Path>, flags: i32, mode: u32) -> Self {
        Op::of(Open { dir: None, path: CPath::new(path.as_ref()), flags, mode })
    }

    /// The same, with a relative `path` starting from the open directory `dir`.
    #[track_caller]
    pub fn at(dir: impl Into<Source<'a>>, path: impl AsRef<Path>, flags: i32, mode: u32) -> Self {
        Op::of(Open { dir: Some(dir.into()), path: CPath::new(path.as_ref()), flags, mode })
    }
}

/// Asks for a file's metadata. [`statx(2)`](https://man7.org/linux/man-pages/man2/statx.2.html).
///
/// # Examples
/// ```
/// use corio::op::AsyncStatx;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let stat = AsyncStatx::path("Cargo.toml").await?;
/// assert_eq!(stat.len(), std::fs::metadata("Cargo.toml")?.len());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_STATX")]
pub type AsyncStatx<'a> = Op<Statx<'a>>;

/// See [`AsyncStatx`].
pub struct Statx<'a> {
    dir: Option<Source<'a>>,
    path: CPath,
    flags: i32,
    /// The kernel writes this.
    stat: MaybeUninit<os::Stat>,
}

impl Operation for Statx<'_> {
    type Output = io::Result<Metadata>;
    const CODE: OpCode = OpCode::Statx;

    fn prepare(&mut self) -> Result<(), i32> {
        self.path.check()?;
        hold_dir(&mut self.dir)
    }
    #[allow(private_interfaces)]
    fn request(&mut self) -> Request {
        Request::Statx {
            dir: dir_fd(&self.dir),
            path: self.path.as_ptr(),
            flags: self.flags,
            out: self.stat.as_mut_ptr(),
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        // SAFETY: the kernel fills the whole structure when it succeeds; zero is valid for each
        // field that it does not know.
        io_result(result).map(|_| Metadata::new(unsafe { self.stat.assume_init() }))
    }
}

impl<'a> Op<Statx<'a>> {
    #[track_caller]
    fn make(dir: Option<Source<'a>>, path: &Path, flags: i32) -> Self {
        let path = CPath::new(path);
        Op::of(Statx { dir, path, flags, stat: MaybeUninit::zeroed() })
    }

    /// Of the file at `path`, symbolic links followed.
    #[track_caller]
    pub fn path(path: impl AsRef<Path>) -> Self {
        Self::make(None, path.as_ref(), 0)
    }

    /// Of what is at `path` itself, even if it is a symbolic link.
    #[track_caller]
    pub fn link(path: impl AsRef<Path>) -> Self {
        Self::make(None, path.as_ref(), os::AT_SYMLINK_NOFOLLOW)
    }

    /// Of an open file.
    #[track_caller]
    pub fn file(file: impl Into<Source<'a>>) -> Self {
        Self::make(Some(file.into()), Path::new(""), os::AT_EMPTY_PATH)
    }
}

impl std::fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("flags", &self.flags).finish_non_exhaustive()
    }
}
