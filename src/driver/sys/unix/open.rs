//! Opens that do not block, of files that the kernel has in memory.
//!
//! `openat2(2)` with `RESOLVE_CACHED` (5.12) returns `EAGAIN` where the lookup of a path has to
//! read a directory, or to ask another host. That is all it guarantees. The open itself may block
//! as any other: for the other end of a FIFO, for a device, for the server of a file system, or
//! until a lease is given up. And merely opening a FIFO or a device, to find out that it is one,
//! has side effects.
//!
//! So the path is looked up with `O_PATH` first, which opens nothing, and the file is inspected. If
//! it is a regular one on a [local](super::host::is_local) file system, that very file is opened by
//! its link in `/proc`, even if its path has changed meanwhile. `O_NONBLOCK` makes a lease an error
//! (`EWOULDBLOCK`), has no other effect on such files, and is removed again. Two waits remain: a
//! file system may read a little from its disk (a key, a quota), and a program may intercept opens
//! (`FAN_OPEN_PERM`), for which io_uring waits in the same place.

// # Why this file has `unsafe`
// It makes the system calls.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::{host, large, newer, retry};
use crate::driver::sys::Counted;

/// The flags of opens that can be done here. The kernel refuses `RESOLVE_CACHED` with those that
/// create or truncate a file; others are not for regular files, or behave differently in two steps.
const SIMPLE: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_CLOEXEC
    | libc::O_DIRECT
    | libc::O_LARGEFILE
    | libc::O_NOATIME
    | libc::O_NOCTTY
    | libc::O_NONBLOCK
    | libc::O_SYNC;

/// Opens files for one thread.
pub(in crate::driver) struct Opener {
    /// `/proc/thread-self/fd`, which has a link for each open file of this thread.
    links: OwnedFd,
    /// The process of the links: after a `fork` they would be those of the parent.
    process: u32,
}

impl Opener {
    /// Creates an opener for the calling thread; `None` if this kernel is too old, or `/proc` is
    /// not mounted.
    pub(in crate::driver) fn new() -> Option<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        // SAFETY: the path is a literal, which ends with a NUL.
        let links = unsafe { openat2(libc::AT_FDCWD, c"/proc/thread-self/fd".as_ptr(), flags, 0) };
        let opener = Opener { links: links.ok()?, process: std::process::id() };
        opener.is_in_proc().then_some(opener)
    }

    /// Returns `true` if the directory is part of procfs, and not another one of that name.
    #[allow(clippy::unnecessary_cast)] // The types differ from host to host.
    fn is_in_proc(&self) -> bool {
        let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `stat` is valid for writes, and filled if the call succeeds, which is checked
        // first.
        unsafe {
            libc::fstatfs(self.links.as_raw_fd(), stat.as_mut_ptr()) == 0
                && stat.assume_init().f_type as i64 == libc::PROC_SUPER_MAGIC as i64
        }
    }

    /// Returns `true` if an open with these flags can be tried.
    pub(in crate::driver) fn is_for(flags: i32) -> bool {
        flags & !SIMPLE == 0
    }

    /// Opens a file if that does not block; returns the same result as a blocking open.
    ///
    /// # Safety
    /// `path` ends with a NUL and is valid for reads.
    pub(in crate::driver) unsafe fn open(
        &self,
        dir: RawFd,
        path: *const libc::c_char,
        flags: i32,
    ) -> Counted<Option<i32>> {
        // SAFETY: this function's only item.
        let found = match unsafe { openat2(dir, path, libc::O_PATH, libc::RESOLVE_CACHED) } {
            Ok(found) => found,
            Err(error) => return Counted::new(is_about_the_path(error).then_some(-error), 1),
        };
        if !is_regular_and_local(found.as_raw_fd()) {
            return Counted::new(None, 3);
        }
        if std::process::id() != self.process {
            return Counted::new(None, 4);
        }
        // There may be a lease. Any other error will recur in the blocking open.
        let Ok(file) = self.open_found(&found, flags) else { return Counted::new(None, 5) };
        if flags & libc::O_NONBLOCK != 0 {
            return Counted::new(Some(file.into_raw_fd()), 5);
        }
        // SAFETY: passes no memory.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) } {
            0 => Counted::new(Some(file.into_raw_fd()), 6),
            _ => Counted::new(None, 7),
        }
    }

    /// Opens a file that was looked up, through its link.
    fn open_found(&self, found: &OwnedFd, flags: i32) -> Result<OwnedFd, i32> {
        // Any fd in decimal, and a NUL.
        let mut name = [0u8; 11];
        let _ = write!(&mut name[..10], "{}", found.as_raw_fd());
        let (links, flags) = (self.links.as_raw_fd(), flags | libc::O_NONBLOCK);
        // SAFETY: the name ends with a NUL: at most ten of its eleven bytes are written.
        owned(retry(|| unsafe { large::openat(links, name.as_ptr().cast(), flags) as isize }))
    }
}

/// Returns `true` if a lookup's error is that of the open: cached directory entries are up to date
/// also where they say that a name does not exist. Other errors are left to the blocking open:
/// `EAGAIN`, what a filter or an older kernel returns for any path (`ENOSYS`, `EINVAL`, `EPERM`,
/// `EACCES`), and a lack of fds, as the lookup needs one more.
fn is_about_the_path(error: i32) -> bool {
    matches!(error, libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG)
}

/// Returns `true` if an open file is a FIFO or another pipe.
#[cfg(corio_uring)]
pub(in crate::driver) fn is_pipe(file: RawFd) -> bool {
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(file, libc::F_GETPIPE_SZ) >= 0 }
}

fn is_regular_and_local(file: RawFd) -> bool {
    let is_regular = |stat: &libc::statx| u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFREG;
    cached_stat(file).is_some_and(|stat| is_regular(&stat) && is_local(&stat))
}

fn is_local(stat: &libc::statx) -> bool {
    host::is_local(stat.stx_dev_major, stat.stx_dev_minor)
}

/// Returns the metadata of a file that the kernel has in memory: of a local one, it is up to date.
pub(super) fn cached_stat(file: RawFd) -> Option<libc::statx> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let (mask, place) = (libc::STATX_TYPE | libc::STATX_NLINK, stat.as_mut_ptr());
    // SAFETY: the path ends with a NUL; `stat` is valid for writes, and filled if the call
    // succeeds.
    unsafe {
        let result = newer::statx(file, c"".as_ptr(), flags, mask, place);
        (result == 0).then(|| stat.assume_init())
    }
}

/// `openat2(2)`: returns an fd that is close-on-exec, or an error number.
///
/// # Safety
/// `path` ends with a NUL and is valid for reads.
unsafe fn openat2(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    resolve: u64,
) -> Result<OwnedFd, i32> {
    // SAFETY: the structure has integers only, for which zeros are valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    let len = size_of::<libc::open_how>();
    // SAFETY: this function's only item; `how` is as long as `len` says.
    let call = || unsafe { libc::syscall(libc::SYS_openat2, dir, path, &raw const how, len) };
    owned(retry(|| call() as isize))
}

fn owned(result: i32) -> Result<OwnedFd, i32> {
    // SAFETY: the kernel has just returned this fd, which nothing else owns.
    if result < 0 { Err(-result) } else { Ok(unsafe { OwnedFd::from_raw_fd(result) }) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn after_a_fork_nothing_is_opened_by_the_parents_links() {
        let Some(opener) = Opener::new() else {
            eprintln!("skipped: this host has no openat2 or no /proc");
            return;
        };
        let open = || {
            let path = c"Cargo.toml".as_ptr();
            // SAFETY: the path ends with a NUL.
            unsafe { opener.open(libc::AT_FDCWD, path, libc::O_RDONLY).result }
        };
        // Caches are filled before the fork: after it, few calls are allowed.
        let before = open().filter(|fd| *fd >= 0);
        let (mut wait, mut go) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        // SAFETY: the child makes a few system calls, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let opened = wait.read_exact(&mut [0]).is_err() || open().is_some();
            // SAFETY: ends the process.
            unsafe { libc::_exit(opened.into()) };
        }
        // Any number that the child's file gets is one of the parent's files now.
        let theirs: Vec<_> = (0..32).map(|_| File::open("src/lib.rs").expect("a file")).collect();
        go.write_all(&[0]).expect("the child waits");
        let mut status = -1;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "before the fork: {before:?}");
        drop(theirs);
        if let Some(fd) = before {
            // SAFETY: the open has just made it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}
