//! Opens of files that the kernel has in memory, and closes, which wait for nobody.
//!
//! `openat2(2)` with `RESOLVE_CACHED` (5.12) says `EAGAIN` where a directory has to be read, or
//! another computer asked, to find a file. That is all it promises. The open itself may wait as any
//! other: for the other end of a FIFO, for a device, for the server of a file system, or until
//! somebody gives up a lease. And to open a FIFO or a device only to see what it is has effects of
//! its own.
//!
//! So the file is found with `O_PATH` first, which opens nothing, and is looked at. If it is a
//! regular one on a [local](super::host::is_local) file system, that very file is opened by its
//! link in `/proc`, whatever its path may have become meanwhile. `O_NONBLOCK` makes a lease an
//! error (`EWOULDBLOCK`), means nothing else to such files, and is taken away again. What is left
//! is that a file system may read a little from its disk (a key, a quota), and that programs may
//! listen in on opens (`FAN_OPEN_PERM`), which io_uring waits for in the same place.
//!
//! A close has nothing to wait for where nothing was written through that fd. But if the file has
//! no name any more, its space may be freed by it, which takes its time.
//!
//! # Why this file has `unsafe`
//! It makes the system calls.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::{host, retry};

/// What an open may be asked for here. The kernel refuses `RESOLVE_CACHED` where files are made or
/// cut; the others are not for regular files, or would not look the same afterwards.
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
    /// `/proc/thread-self/fd`, where each open file of this thread has a link that leads to it.
    links: OwnedFd,
    /// After a `fork` those would be the parent's files.
    process: u32,
}

impl Opener {
    /// For the calling thread; `None` if this kernel is too old, or `/proc` is not there.
    pub(in crate::driver) fn new() -> Option<Self> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        // SAFETY: a valid path.
        let links = unsafe { openat2(libc::AT_FDCWD, c"/proc/thread-self/fd".as_ptr(), flags, 0) };
        let opener = Opener { links: links.ok()?, process: std::process::id() };
        opener.is_in_proc().then_some(opener)
    }

    /// A directory of that name that is something else would have files of its own.
    #[allow(clippy::unnecessary_cast)] // The types differ from host to host.
    fn is_in_proc(&self) -> bool {
        let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `stat` is a valid place, and is filled if the call succeeds.
        unsafe {
            libc::fstatfs(self.links.as_raw_fd(), stat.as_mut_ptr()) == 0
                && stat.assume_init().f_type as i64 == libc::PROC_SUPER_MAGIC as i64
        }
    }

    /// Whether an open with these flags can be tried.
    pub(in crate::driver) fn is_for(flags: i32) -> bool {
        flags & !SIMPLE == 0
    }

    /// Opens a file if that takes no waiting: the result that any other way would give. Also gives
    /// the number of system calls made.
    ///
    /// # Safety
    /// `path` is there.
    pub(in crate::driver) unsafe fn open(
        &self,
        dir: RawFd,
        path: *const libc::c_char,
        flags: i32,
    ) -> (Option<i32>, u64) {
        // SAFETY: what the caller promises.
        let found = match unsafe { openat2(dir, path, libc::O_PATH, libc::RESOLVE_CACHED) } {
            Ok(found) => found,
            Err(error) => return (is_about_the_path(error).then_some(-error), 1),
        };
        if !is_regular_and_local(found.as_raw_fd()) {
            return (None, 3);
        }
        if std::process::id() != self.process {
            return (None, 4);
        }
        // There may be a lease. Any other error will be found again, by who may wait.
        let Ok(file) = self.open_found(&found, flags) else { return (None, 5) };
        if flags & libc::O_NONBLOCK != 0 {
            return (Some(file.into_raw_fd()), 5);
        }
        // SAFETY: passes no memory.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) } {
            0 => (Some(file.into_raw_fd()), 6),
            _ => (None, 7),
        }
    }

    /// Opens a file that was found, through its link.
    fn open_found(&self, found: &OwnedFd, flags: i32) -> Result<OwnedFd, i32> {
        // Any fd in decimal, and a NUL.
        let mut name = [0u8; 11];
        let _ = write!(&mut name[..10], "{}", found.as_raw_fd());
        let (links, flags) = (self.links.as_raw_fd(), flags | libc::O_NONBLOCK);
        // SAFETY: the name ends with a NUL.
        owned(retry(|| unsafe { libc::openat(links, name.as_ptr().cast(), flags) as isize }))
    }
}

/// Whether a lookup's error is that of the open: what the kernel has in memory is the truth also
/// where it says that there is nothing. The others are left to who may wait: `EAGAIN`, what a
/// filter or an older kernel says to any path (`ENOSYS`, `EINVAL`, `EPERM`, `EACCES`), and a lack
/// of fds, as the lookup needs one more.
fn is_about_the_path(error: i32) -> bool {
    matches!(error, libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG)
}

/// Whether a close is no work for anybody: of a local file that stays, opened for reading. Also
/// gives the number of system calls made.
pub(in crate::driver) fn closes_at_once(file: RawFd) -> (bool, u64) {
    // SAFETY: passes no memory.
    let mode = unsafe { libc::fcntl(file, libc::F_GETFL) };
    if mode < 0 || mode & libc::O_ACCMODE != libc::O_RDONLY {
        return (false, 1);
    }
    (look(file).is_some_and(|stat| stat.stx_nlink > 0 && is_local(&stat)), 2)
}

fn is_regular_and_local(file: RawFd) -> bool {
    let is_regular = |stat: &libc::statx| u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFREG;
    look(file).is_some_and(|stat| is_regular(&stat) && is_local(&stat))
}

fn is_local(stat: &libc::statx) -> bool {
    host::is_local(stat.stx_dev_major, stat.stx_dev_minor)
}

/// What the kernel has in memory about a file: of a local one, that is the truth.
fn look(file: RawFd) -> Option<libc::statx> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let (mask, place) = (libc::STATX_TYPE | libc::STATX_NLINK, stat.as_mut_ptr());
    // SAFETY: the path ends with a NUL; `stat` is a valid place, and is filled if the call succeeds.
    unsafe {
        let result = libc::statx(file, c"".as_ptr(), flags, mask, place);
        (result == 0).then(|| stat.assume_init())
    }
}

/// `openat2(2)`: an fd that is close-on-exec, or an error number.
///
/// # Safety
/// `path` is there.
unsafe fn openat2(
    dir: RawFd,
    path: *const libc::c_char,
    flags: i32,
    resolve: u64,
) -> Result<OwnedFd, i32> {
    // SAFETY: for this one, all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    let len = size_of::<libc::open_how>();
    // SAFETY: what the caller promises; `how` is as long as `len` says.
    let call = || unsafe { libc::syscall(libc::SYS_openat2, dir, path, &raw const how, len) };
    owned(retry(|| call() as isize))
}

fn owned(result: i32) -> Result<OwnedFd, i32> {
    // SAFETY: the kernel has just made this fd for us.
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
            eprintln!("left out: no openat2 here, or no /proc");
            return;
        };
        let open = || {
            let path = c"Cargo.toml".as_ptr();
            // SAFETY: the path ends with a NUL.
            unsafe { opener.open(libc::AT_FDCWD, path, libc::O_RDONLY).0 }
        };
        // What this looks up once is looked up before the fork: after it, few things may be done.
        let before = open().filter(|fd| *fd >= 0);
        let (mut wait, mut go) = std::io::pipe().expect("a pipe");
        // SAFETY: the child makes a few system calls, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let opened = wait.read(&mut [0]).is_err() || open().is_some();
            // SAFETY: ends the process.
            unsafe { libc::_exit(opened.into()) };
        }
        // Whatever number the child's file gets is one of the parent's files now.
        let theirs: Vec<_> = (0..32).map(|_| File::open("src/lib.rs").expect("a file")).collect();
        go.write_all(&[0]).expect("the child waits");
        let mut status = -1;
        // SAFETY: `status` is a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "before the fork: {before:?}");
        drop(theirs);
        if let Some(fd) = before {
            // SAFETY: the open has just made it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}
