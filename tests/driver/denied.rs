//! `EACCES` as an operation's own answer, from a file system (FUSE) that gives it where a second
//! attempt would do harm. Left out where such a file system can't be mounted.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::mpsc::{Receiver, channel};

use corio::op::{AsyncClose, AsyncFsync};

use crate::harness::{Case, Outcome, assert_errno};

/// Mounts a file system in a mount namespace of this thread; returns one file of it, and the fds
/// that the server opens while a flush is under way, when the fd to be closed is free already.
fn mounted() -> Option<(File, Receiver<OwnedFd>)> {
    let dir = tempfile::tempdir().expect("a directory");
    let path =
        |path: &std::path::Path| CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
    let fd = device.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
    let (target, options) = (path(dir.path()), CString::new(options).expect("no NUL"));
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: all pointers are null, or strings that outlive the calls.
    let is_mounted = unsafe {
        let (fuse, flags) = (c"fuse".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV);
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()) == 0
            && libc::mount(fuse, target.as_ptr(), fuse, flags, options.as_ptr().cast()) == 0
    };
    if !is_mounted {
        return None;
    }
    let (sender, opened) = channel();
    std::thread::spawn(move || serve(device, |fd| drop(sender.send(fd))));
    let file = File::open(dir.path().join("file")).expect("the file of the file system");
    std::mem::forget(dir); // Other threads see an empty directory.
    Some((file, opened))
}

/// Answers the requests of `linux/fuse.h`, until the file system is unmounted.
fn serve(mut device: File, mut flushing: impl FnMut(OwnedFd)) {
    let attributes = |node: u64| -> Vec<u8> {
        let mode = if node == 1 { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
        let words = [node, 0, 0, 0, 0, 0].into_iter().flat_map(u64::to_le_bytes);
        let halves = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].into_iter().flat_map(u32::to_le_bytes);
        words.chain(halves).collect()
    };
    let mut syncs = 0;
    let mut request = vec![0; 1 << 18];
    while let Ok(len) = device.read(&mut request) {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().expect("four"));
        let node = u64::from_le_bytes(request[16..24].try_into().expect("eight"));
        assert!(len >= 40);
        let (error, body) = match word(4) {
            // LOOKUP, GETATTR.
            1 => (0, [[2u64, 0, 0, 0, 0].map(u64::to_le_bytes).concat(), attributes(2)].concat()),
            3 => (0, [vec![0; 16], attributes(node)].concat()),
            // OPEN, RELEASE.
            14 => (0, vec![0; 16]),
            18 => (0, vec![]),
            // FSYNC: the error is reported once.
            20 => {
                syncs += 1;
                (if syncs == 1 { -libc::EACCES } else { 0 }, vec![])
            }
            // FLUSH.
            25 => {
                flushing(File::open("/dev/null").expect("a file").into());
                (-libc::EACCES, vec![])
            }
            // INIT.
            26 => {
                let mut body = vec![0; 64];
                body[..8].copy_from_slice(&[7u32, 31].map(u32::to_le_bytes).concat());
                body[20..24].copy_from_slice(&4096u32.to_le_bytes());
                (0, body)
            }
            // FORGET has no answer.
            2 | 42 => continue,
            _ => (-libc::ENOSYS, vec![]),
        };
        let len = (16 + body.len()) as u32;
        let head = [&len.to_le_bytes()[..], &error.to_le_bytes(), &request[8..16]].concat();
        if device.write_all(&[head, body].concat()).is_err() {
            return;
        }
    }
}

every_driver! { cases:
    an_error_that_fsync_reports_once_is_not_lost,
    a_close_that_fails_is_not_repeated,
    a_detached_close_that_fails_is_not_repeated,
}

fn is_open(fd: &OwnedFd) -> bool {
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) >= 0 }
}

fn an_error_that_fsync_reports_once_is_not_lost(case: Case) -> Outcome {
    let Some((file, _)) = mounted() else { return Ok(()) };
    let mut context = case.context();
    assert_errno(context.block_on(async { AsyncFsync::new(&file).await }), libc::EACCES);
    context.block_on(async { AsyncFsync::new(&file).await })?;
    Ok(())
}

fn a_close_that_fails_is_not_repeated(case: Case) -> Outcome {
    case.alone(|| {
        let Some((file, opened)) = mounted() else { return Ok(()) };
        let mut context = case.context();
        assert_errno(context.block_on(AsyncClose::new(file)), libc::EACCES);
        let other = opened.recv()?;
        assert!(is_open(&other), "a second close has hit another file");
        Ok(())
    })
}

fn a_detached_close_that_fails_is_not_repeated(case: Case) -> Outcome {
    case.alone(|| {
        let Some((file, opened)) = mounted() else { return Ok(()) };
        let mut context = case.context();
        context.block_on(async { drop(corio::fs::File::from(file)) });
        // Waits for the close.
        drop(context);
        let other = opened.recv()?;
        assert!(is_open(&other), "a second close has hit another file");
        Ok(())
    })
}
