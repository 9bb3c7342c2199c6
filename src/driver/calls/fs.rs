//! Plain system calls on files and paths.

// # Why this file has `unsafe`
// It makes system calls.

#[cfg(corio_uring)]
use io_uring::{opcode, types};

use crate::driver::call::Host::Does;
#[cfg(windows)]
use crate::driver::call::Host::Lacks;
use crate::driver::call::{Args, calls};
#[cfg(windows)]
use crate::driver::sys::{self, outcome};
#[cfg(unix)]
use crate::driver::sys::{self, retry};
#[cfg(corio_uring)]
use crate::driver::uring::on;
use crate::os;

calls! {
    /// `fsync(2)`. `files[0]`.
    FSYNC {
        ring: (Fsync, |args| on(args.files[0], |fd| opcode::Fsync::new(fd).build())),
        fallback: Pool,
        unix: Does(fsync),
        windows: Does(fsync),
    }

    /// `fdatasync(2)`. `files[0]`.
    FDATASYNC {
        ring: (Fsync, |args| on(args.files[0], |fd| {
            opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build()
        })),
        fallback: Pool,
        unix: Does(fdatasync),
        windows: Does(fdatasync),
    }

    /// `fallocate(2)`. `files[0]`; `words`: mode, offset, length.
    FALLOCATE {
        ring: (Fallocate, |args| on(args.files[0], |fd| {
            let [_, offset, len, _] = args.words;
            opcode::Fallocate::new(fd, len).offset(offset).mode(args.int(0)).build()
        })),
        fallback: Pool,
        unix: Does(fallocate),
        windows: Does(fallocate),
    }

    /// `ftruncate(2)`. `files[0]`; `words[0]`: length. The ring's opcode is of Linux 6.9.
    FTRUNCATE {
        ring: (Ftruncate, |args| on(args.files[0], |fd| {
            opcode::Ftruncate::new(fd, args.words[0]).build()
        })),
        fallback: Pool,
        unix: Does(ftruncate),
        windows: Does(ftruncate),
    }

    /// `unlinkat(2)`. `dirs[0]`, `ptrs[0]`: path; `words[0]`: flags.
    UNLINK {
        ring: (UnlinkAt, |args| {
            let dir = types::Fd(args.dirs[0]);
            opcode::UnlinkAt::new(dir, args.path(0)).flags(args.int(0)).build()
        }),
        fallback: Pool,
        unix: Does(unlink),
        windows: Does(unlink),
    }

    /// `renameat2(2)`. `dirs[0]`, `ptrs[0]`: old path; `dirs[1]`, `ptrs[1]`: new path; `words[0]`:
    /// flags.
    RENAME {
        ring: (RenameAt, |args| {
            let [old, new] = args.dirs.map(types::Fd);
            opcode::RenameAt::new(old, args.path(0), new, args.path(1))
                .flags(args.words[0] as u32)
                .build()
        }),
        fallback: Pool,
        unix: Does(rename),
        windows: Does(rename),
    }

    /// `linkat(2)`. `dirs[0]`, `ptrs[0]`: old path; `dirs[1]`, `ptrs[1]`: new path; `words[0]`:
    /// flags. The ring's opcode is of Linux 5.15.
    LINK {
        ring: (LinkAt, |args| {
            let [old, new] = args.dirs.map(types::Fd);
            opcode::LinkAt::new(old, args.path(0), new, args.path(1)).flags(args.int(0)).build()
        }),
        fallback: Pool,
        unix: Does(link),
        windows: Does(link),
    }

    /// `symlinkat(2)`. `ptrs[0]`: what the link holds; `dirs[1]`, `ptrs[1]`: the link's path. The
    /// ring's opcode is of Linux 5.15.
    SYMLINK {
        ring: (SymlinkAt, |args| {
            let dir = types::Fd(args.dirs[1]);
            opcode::SymlinkAt::new(dir, args.path(0), args.path(1)).build()
        }),
        fallback: Pool,
        unix: Does(symlink),
        windows: Lacks("links have a kind, of a file or of a directory; the call names none"),
    }

    /// `mkdirat(2)`. `dirs[0]`, `ptrs[0]`: path; `words[0]`: mode. The ring's opcode is of Linux
    /// 5.15.
    MKDIR {
        ring: (MkDirAt, |args| {
            let dir = types::Fd(args.dirs[0]);
            opcode::MkDirAt::new(dir, args.path(0)).mode(args.words[0] as u32).build()
        }),
        fallback: Pool,
        unix: Does(mkdir),
        windows: Does(mkdir),
    }
}

#[cfg(unix)]
unsafe fn fsync(args: &Args) -> i32 {
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::fsync(args.files[0].fd) as isize })
}

#[cfg(windows)]
unsafe fn fsync(args: &Args) -> i32 {
    outcome(sys::file(args.files[0].fd).sync_all().map(|()| 0))
}

#[cfg(all(unix, not(target_vendor = "apple")))]
unsafe fn fdatasync(args: &Args) -> i32 {
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::fdatasync(args.files[0].fd) as isize })
}

/// Writes metadata as well: this host can't write data alone.
#[cfg(target_vendor = "apple")]
unsafe fn fdatasync(args: &Args) -> i32 {
    // SAFETY: as there.
    unsafe { fsync(args) }
}

#[cfg(windows)]
unsafe fn fdatasync(args: &Args) -> i32 {
    outcome(sys::file(args.files[0].fd).sync_data().map(|()| 0))
}

#[cfg(target_os = "linux")]
unsafe fn fallocate(args: &Args) -> i32 {
    let [_, offset, len, _] = args.words;
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return -os::EINVAL };
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::fallocate64(args.files[0].fd, args.int(0), offset, len) as isize })
}

/// Extends the file where the host can't reserve space; only for the mode 0.
#[cfg(all(unix, not(target_os = "linux")))]
unsafe fn fallocate(args: &Args) -> i32 {
    let (fd, [mode, offset, len, _]) = (args.files[0].fd, args.words);
    if mode != 0 {
        return -libc::EOPNOTSUPP;
    }
    let end = offset.checked_add(len).and_then(|end| libc::off_t::try_from(end).ok());
    let Some(end) = end.filter(|_| len > 0) else { return -os::EINVAL };
    #[cfg(target_os = "freebsd")]
    // SAFETY: passes no memory.
    match unsafe { libc::posix_fallocate(fd, offset as libc::off_t, len as libc::off_t) } {
        libc::EOPNOTSUPP | libc::EINVAL => {}
        error => return -error,
    }
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is a valid place, and is initialized if the call succeeds.
    unsafe {
        match retry(|| libc::fstat(fd, stat.as_mut_ptr()) as isize) {
            0 if stat.assume_init().st_size >= end => 0,
            0 => retry(|| libc::ftruncate(fd, end) as isize),
            error => error,
        }
    }
}

#[cfg(windows)]
unsafe fn fallocate(args: &Args) -> i32 {
    let [_, offset, len, _] = args.words;
    sys::fallocate(&sys::file(args.files[0].fd), args.int(0), offset, len)
}

#[cfg(unix)]
unsafe fn ftruncate(args: &Args) -> i32 {
    let Ok(len) = args.words[0].try_into() else { return -os::EINVAL };
    // SAFETY: passes no memory.
    retry(|| unsafe { sys::large::ftruncate(args.files[0].fd, len) as isize })
}

#[cfg(windows)]
unsafe fn ftruncate(args: &Args) -> i32 {
    match i64::try_from(args.words[0]) {
        Ok(_) => outcome(sys::file(args.files[0].fd).set_len(args.words[0]).map(|()| 0)),
        Err(_) => -os::EINVAL,
    }
}

#[cfg(unix)]
unsafe fn unlink(args: &Args) -> i32 {
    // SAFETY: the path is valid, by the contract of `Host::Does`, and ends with a NUL.
    retry(|| unsafe { libc::unlinkat(args.dirs[0], args.path(0), args.int(0)) as isize })
}

#[cfg(windows)]
unsafe fn unlink(args: &Args) -> i32 {
    // SAFETY: the path is valid, by the contract of `Host::Does`, and was made from one of std's.
    let path = sys::start_from(args.dirs[0], unsafe { sys::path_of(args.path(0)) });
    let removed = path.and_then(|path| match args.int(0) & os::AT_REMOVEDIR {
        0 => std::fs::remove_file(path),
        _ => std::fs::remove_dir(path),
    });
    outcome(removed.map(|()| 0))
}

#[cfg(target_os = "linux")]
unsafe fn rename(args: &Args) -> i32 {
    let ([old_dir, new_dir], flags) = (args.dirs, args.words[0] as u32);
    if flags == 0 {
        // SAFETY: both paths are valid, by the contract of `Host::Does`, and end with a NUL.
        return retry(|| unsafe {
            libc::renameat(old_dir, args.path(0), new_dir, args.path(1)) as isize
        });
    }
    // By number, as not every C library has the function. The call is of Linux 3.15.
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and end with a NUL.
    retry(|| unsafe {
        libc::syscall(libc::SYS_renameat2, old_dir, args.path(0), new_dir, args.path(1), flags)
            as isize
    })
}

/// Without flags: these are Linux's.
#[cfg(all(unix, not(target_os = "linux")))]
unsafe fn rename(args: &Args) -> i32 {
    let [old_dir, new_dir] = args.dirs;
    if args.words[0] != 0 {
        return -os::EINVAL;
    }
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and end with a NUL.
    retry(|| unsafe { libc::renameat(old_dir, args.path(0), new_dir, args.path(1)) as isize })
}

#[cfg(windows)]
unsafe fn rename(args: &Args) -> i32 {
    if args.words[0] != 0 {
        return -os::EINVAL;
    }
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and were made from std's.
    let (old, new) = unsafe { (sys::path_of(args.path(0)), sys::path_of(args.path(1))) };
    let renamed = sys::start_from(args.dirs[0], old)
        .and_then(|old| std::fs::rename(old, sys::start_from(args.dirs[1], new)?));
    outcome(renamed.map(|()| 0))
}

#[cfg(unix)]
unsafe fn link(args: &Args) -> i32 {
    let ([old_dir, new_dir], flags) = (args.dirs, args.int(0));
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and end with a NUL.
    retry(|| unsafe { libc::linkat(old_dir, args.path(0), new_dir, args.path(1), flags) as isize })
}

#[cfg(windows)]
unsafe fn link(args: &Args) -> i32 {
    if args.words[0] != 0 {
        return -os::EINVAL;
    }
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and were made from std's.
    let (old, new) = unsafe { (sys::path_of(args.path(0)), sys::path_of(args.path(1))) };
    let linked = sys::start_from(args.dirs[0], old)
        .and_then(|old| std::fs::hard_link(old, sys::start_from(args.dirs[1], new)?));
    outcome(linked.map(|()| 0))
}

#[cfg(unix)]
unsafe fn symlink(args: &Args) -> i32 {
    // SAFETY: both paths are valid, by the contract of `Host::Does`, and end with a NUL.
    retry(|| unsafe { libc::symlinkat(args.path(0), args.dirs[1], args.path(1)) as isize })
}

#[cfg(unix)]
unsafe fn mkdir(args: &Args) -> i32 {
    let mode = args.words[0] as libc::mode_t;
    // SAFETY: the path is valid, by the contract of `Host::Does`, and ends with a NUL.
    retry(|| unsafe { libc::mkdirat(args.dirs[0], args.path(0), mode) as isize })
}

#[cfg(windows)]
unsafe fn mkdir(args: &Args) -> i32 {
    // SAFETY: the path is valid, by the contract of `Host::Does`, and was made from one of std's.
    let path = sys::start_from(args.dirs[0], unsafe { sys::path_of(args.path(0)) });
    outcome(path.and_then(std::fs::create_dir).map(|()| 0))
}
