//! Opens files below the root, and nowhere else.
//!
//! Checking a path and opening it afterwards leaves a gap in which a directory can be replaced by a
//! symbolic link. Here the kernel checks while it opens: `openat2(2)` with `RESOLVE_BENEATH` fails
//! when any step of the path, links included, leads out of the root. Where that system call is
//! missing (kernels before 5.6, some sandboxes), or on demand, paths are walked by hand, one
//! `openat(2)` per component, and no link is followed.
//!
//! These calls are made on the loop's thread: for names in the kernel's cache they take about a
//! microsecond, much less than handing them to another thread would.

// # Why this file has `unsafe`
// It makes system calls that `std` has no functions for.

use std::ffi::CStr;
use std::fs::{File, canonicalize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::paths::UrlPath;

/// Flags to open for reading; `O_NONBLOCK` as a pipe without a writer must not block the server.
const READ: i32 = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

/// Flags to open for metadata only.
const LOOK: i32 = libc::O_PATH | libc::O_CLOEXEC;

/// How often a lookup is tried that a concurrent rename has interrupted.
const TRIES: usize = 8;

/// The directory that is served.
pub(crate) struct Root {
    dir: OwnedFd,
    /// Without any symbolic link, to tell which absolute links lead back into it.
    path: PathBuf,
    lookup: Lookup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// By `openat2(2)`, following links that stay below the root.
    Beneath,
    /// Component by component, following no link.
    Walk,
}

impl Root {
    /// The directory at `path`; links in it are followed if `links` says so and the system can
    /// keep them from leading out.
    pub(crate) fn new(path: &Path, links: bool) -> io::Result<Self> {
        let path = canonicalize(path)?;
        let dir = OwnedFd::from(File::open(&path)?);
        if !dir.try_clone().map(File::from)?.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let lookup = match openat2(dir.as_fd(), c".", LOOK, libc::RESOLVE_BENEATH) {
            Ok(_) if links => Lookup::Beneath,
            Ok(_) => Lookup::Walk,
            Err(error) => {
                if links {
                    eprintln!("file_server: symbolic links are not followed: openat2(2): {error}");
                }
                Lookup::Walk
            }
        };
        Ok(Root { dir, path, lookup })
    }

    /// Opens a file or directory for reading.
    pub(crate) fn open(&self, path: &UrlPath) -> io::Result<File> {
        self.lookup(path, READ).map(File::from)
    }

    /// Opens a file of any type, for its metadata only.
    pub(crate) fn look(&self, path: &UrlPath) -> io::Result<File> {
        self.lookup(path, LOOK).map(File::from)
    }

    fn lookup(&self, path: &UrlPath, flags: i32) -> io::Result<OwnedFd> {
        match self.lookup {
            Lookup::Walk => self.walk(path, flags),
            Lookup::Beneath => match self.beneath(path.as_c_str(), flags) {
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                    self.through_absolute_link(path, flags).map_err(|_| error)
                }
                result => result,
            },
        }
    }

    fn beneath(&self, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
        let mut again = 1..TRIES;
        loop {
            match openat2(self.dir.as_fd(), path, flags, resolve) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EAGAIN) && again.next().is_some() => {}
                result => return result,
            }
        }
    }

    /// `RESOLVE_BENEATH` refuses every absolute link. One that leads back below the root is
    /// resolved here, and the result, which has no link left, opened as strictly as before.
    fn through_absolute_link(&self, path: &UrlPath, flags: i32) -> io::Result<OwnedFd> {
        let target = canonicalize(self.path.join(path.as_path()))?;
        let target = target.strip_prefix(&self.path).map_err(io::Error::other)?;
        let mut relative = UrlPath::new();
        if !target.as_os_str().is_empty() {
            relative.push(target.as_os_str().as_bytes());
        }
        self.beneath(relative.as_c_str(), flags)
    }

    fn walk(&self, path: &UrlPath, flags: i32) -> io::Result<OwnedFd> {
        let (parents, name) = match path.as_path().parent() {
            Some(parents) => (parents, path.as_path().file_name().unwrap_or_default()),
            None => (Path::new(""), ".".as_ref()),
        };
        let mut dir = self.dir.try_clone()?;
        for parent in parents {
            dir = open_at(dir.as_fd(), parent.as_bytes(), LOOK | libc::O_DIRECTORY)?;
        }
        open_at(dir.as_fd(), name.as_bytes(), flags)
    }
}

/// `openat2(2)`.
fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: it consists of integers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.resolve = resolve;
    // SAFETY: the path ends with a NUL, and `how` is as long as is said.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    owned(fd as i32)
}

/// `openat(2)` of one component, which is no symbolic link.
fn open_at(dir: BorrowedFd<'_>, name: &[u8], flags: i32) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: the name ends with a NUL.
    owned(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_NOFOLLOW) })
}

/// Takes ownership of the fd that a call has returned.
fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
