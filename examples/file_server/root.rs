//! Opens files below the root, and nowhere else.
//!
//! Checking a path and opening it afterwards leaves a gap in which a directory can be replaced by a
//! symbolic link. Here the kernel checks while it opens: `openat2(2)` with `RESOLVE_BENEATH` fails
//! when any step of the path, links included, leads out of the root. Where that system call is
//! missing (kernels before 5.6, some sandboxes), or on demand, paths are walked by hand, one
//! `openat(2)` per component, and no link is followed.
//!
//! Opening a FIFO or a device does something to it: a FIFO's writer goes on, a tape winds back. So
//! a path is opened with `O_PATH` first, which does not touch the file itself. If that has led to a
//! regular file, the same file is opened for reading through `/proc/self/fd`.
//!
//! For names in the kernel's cache these calls take about a microsecond, much less than another
//! thread would. Others wait for the disk. So they are tried on the loop's thread with
//! `RESOLVE_CACHED` (Linux 5.12), and made on another one if names are missing, or where the kernel
//! has no such flag.

use std::ffi::{CStr, OsStr};
use std::fs::{File, Metadata, canonicalize};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corio::blocking::BlockingError;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, openat, openat2};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::paths::UrlPath;

/// Flags to open for reading. Without /proc a FIFO may take the place of a file that was looked at;
/// with `O_NONBLOCK` that does not block the server.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Flags to open for metadata only.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// How often a lookup is tried that a concurrent rename has interrupted.
const TRIES: usize = 8;

/// The directory that is served.
pub(crate) struct Root {
    dir: OwnedFd,
    /// Without any symbolic link, to tell which absolute links lead back into it.
    path: PathBuf,
    lookup: Lookup,
    /// The kernel can be asked for what it has in memory.
    has_cached: bool,
    /// `/proc/self/fd`, if it can be used.
    own_fds: Option<OwnedFd>,
}

/// Whether a lookup may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Allowed,
    /// `EAGAIN` instead.
    Never,
}

impl Wait {
    fn resolve(self) -> ResolveFlags {
        match self {
            Wait::Allowed => ResolveFlags::empty(),
            Wait::Never => ResolveFlags::CACHED,
        }
    }
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
        let lookup = match openat2(&dir, c".", LOOK, Mode::empty(), ResolveFlags::BENEATH) {
            Ok(_) if links => Lookup::Beneath,
            Ok(_) => Lookup::Walk,
            Err(error) => {
                if links {
                    eprintln!("file_server: symbolic links are not followed: openat2(2): {error}");
                }
                Lookup::Walk
            }
        };
        let has_cached = openat2(&dir, c".", LOOK, Mode::empty(), ResolveFlags::CACHED).is_ok();
        let own_fds = own_fds(&dir);
        Ok(Root { dir, path, lookup, has_cached, own_fds })
    }

    /// Opens a regular file or a directory for reading. Anything else is not opened: the error is
    /// `PermissionDenied`.
    pub(crate) async fn open(self: &Arc<Self>, path: &UrlPath) -> io::Result<(File, Metadata)> {
        if self.has_cached {
            match self.open_now(path, Wait::Never) {
                // The second: an absolute link, which has to be resolved by calls that may wait.
                Err(error)
                    if matches!(Errno::from_io_error(&error), Some(Errno::AGAIN | Errno::XDEV)) => {
                }
                opened => return opened,
            }
        }
        let (root, wanted) = (self.clone(), path.clone());
        match corio::spawn_blocking(move || root.open_now(&wanted, Wait::Allowed)).await {
            Err(BlockingError::NoThread(_)) => self.open_now(path, Wait::Allowed),
            opened => opened?,
        }
    }

    /// Opens it on this thread.
    fn open_now(&self, path: &UrlPath, wait: Wait) -> io::Result<(File, Metadata)> {
        for _ in 0..TRIES {
            let found = File::from(self.lookup(path, LOOK, wait)?);
            let metadata = found.metadata()?;
            if metadata.is_dir() {
                let dir = openat(&found, c".", READ | OFlags::DIRECTORY, Mode::empty())?;
                return Ok((dir.into(), metadata));
            }
            if !metadata.is_file() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if let Some(fds) = &self.own_fds {
                let file = openat(fds, DecInt::from_fd(&found), READ, Mode::empty())?;
                return Ok((file.into(), metadata));
            }
            // Another file may have taken its place meanwhile.
            let file = File::from(self.lookup(path, READ, wait)?);
            let opened = file.metadata()?;
            if (opened.dev(), opened.ino()) == (metadata.dev(), metadata.ino()) {
                return Ok((file, opened));
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens a file of any type, for its metadata only. This may wait for the disk.
    pub(crate) fn look(&self, path: &UrlPath) -> io::Result<File> {
        self.lookup(path, LOOK, Wait::Allowed).map(File::from)
    }

    fn lookup(&self, path: &UrlPath, flags: OFlags, wait: Wait) -> io::Result<OwnedFd> {
        match self.lookup {
            Lookup::Walk => self.walk(path, flags, wait),
            Lookup::Beneath => match self.beneath(path.as_c_str(), flags, wait) {
                Err(Errno::XDEV) if wait == Wait::Allowed => {
                    self.through_absolute_link(path, flags).map_err(|_| Errno::XDEV.into())
                }
                result => Ok(result?),
            },
        }
    }

    fn beneath(&self, path: &CStr, flags: OFlags, wait: Wait) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | wait.resolve();
        let mut again = 1..if wait == Wait::Allowed { TRIES } else { 1 };
        loop {
            match openat2(&self.dir, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if again.next().is_some() => {}
                result => return result,
            }
        }
    }

    /// `RESOLVE_BENEATH` refuses every absolute link. One that leads back below the root is
    /// resolved here, and the result, which has no link left, opened as strictly as before.
    fn through_absolute_link(&self, path: &UrlPath, flags: OFlags) -> io::Result<OwnedFd> {
        let target = canonicalize(self.path.join(path.as_path()))?;
        let target = target.strip_prefix(&self.path).map_err(io::Error::other)?;
        let mut relative = UrlPath::new();
        if !target.as_os_str().is_empty() {
            relative.push(target.as_os_str().as_bytes());
        }
        Ok(self.beneath(relative.as_c_str(), flags, Wait::Allowed)?)
    }

    fn walk(&self, path: &UrlPath, flags: OFlags, wait: Wait) -> io::Result<OwnedFd> {
        let (parents, name) = match path.as_path().parent() {
            Some(parents) => (parents, path.as_path().file_name().unwrap_or_default()),
            None => (Path::new(""), ".".as_ref()),
        };
        // No component is a symbolic link.
        let step = |dir: &OwnedFd, name: &OsStr, flags| match wait {
            Wait::Allowed => openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()),
            Wait::Never => {
                let flags = flags | OFlags::NOFOLLOW;
                openat2(dir, name, flags, Mode::empty(), ResolveFlags::CACHED)
            }
        };
        let mut dir = None;
        for parent in parents {
            dir = Some(step(dir.as_ref().unwrap_or(&self.dir), parent, LOOK | OFlags::DIRECTORY)?);
        }
        Ok(step(dir.as_ref().unwrap_or(&self.dir), name, flags)?)
    }
}

/// Opens `/proc/self/fd`. `None` if something else is mounted there, or if files cannot be opened
/// through it.
fn own_fds(any_file: &OwnedFd) -> Option<OwnedFd> {
    let flags = LOOK | OFlags::DIRECTORY;
    let fds = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty()).ok()?;
    let is_proc = fstatfs(&fds).is_ok_and(|about| about.f_type == PROC_SUPER_MAGIC);
    let works = || openat(&fds, DecInt::from_fd(any_file), READ, Mode::empty()).is_ok();
    (is_proc && works()).then_some(fds)
}
