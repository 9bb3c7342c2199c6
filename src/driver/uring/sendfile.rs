//! `sendfile(2)` that never blocks on the socket.
//!
//! The ring has no sendfile, and its splices always go to a kernel worker (about 10 µs each). So
//! the call is made here; when the socket is full, the ring polls it and the call is made again.
//!
//! `sendfile(2)` takes no "don't wait" flag, and the ring's own operations want sockets in
//! blocking mode (else they end with `EAGAIN` where they should wait). The socket is therefore put
//! into non-blocking mode for the duration of the call. The ring is entered by this thread alone,
//! so none of its operations can start in between, and those that have started looked at the mode
//! when they did.
//!
//! Nor does it take `MSG_NOSIGNAL`: a peer that has gone would end a program that does not ignore
//! `SIGPIPE`, as std's start-up code lets it. There the signal is held back from this thread.
//!
//! # Why this file has `unsafe`
//! It makes system calls.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use super::lower::errno;

/// How many system calls one attempt takes, in most programs.
pub(super) const SYSCALLS: u64 = 5;

/// Sends up to `len` bytes of `file` from `offset`; a count, 0 at the end of the file, or a negated
/// error number; `-EAGAIN` when the socket has no room.
pub(super) fn attempt(out: RawFd, file: RawFd, offset: u64, len: u32) -> i32 {
    let Ok(mut offset) = libc::off64_t::try_from(offset) else { return -libc::EOVERFLOW };
    // SAFETY: `F_GETFL` passes no memory.
    let mode = unsafe { libc::fcntl(out, libc::F_GETFL) };
    if mode < 0 {
        return -errno();
    }
    let switch = mode & libc::O_NONBLOCK == 0;
    if switch {
        // SAFETY: `F_SETFL` passes no memory.
        unsafe { libc::fcntl(out, libc::F_SETFL, mode | libc::O_NONBLOCK) };
    }
    let no_signal = NoPipeSignal::new();
    let result = loop {
        // SAFETY: `offset` is a valid place for the kernel to update.
        let sent = unsafe { libc::sendfile64(out, file, &mut offset, len as usize) };
        match sent {
            0.. => break sent as i32,
            _ if errno() == libc::EINTR => {}
            _ => break -errno(),
        }
    };
    drop(no_signal);
    if switch {
        // SAFETY: as above.
        unsafe { libc::fcntl(out, libc::F_SETFL, mode) };
    }
    result
}

/// Keeps `SIGPIPE` from this thread, unless the program ignores it anyway.
struct NoPipeSignal {
    _blocked: Option<Blocked>,
}

struct Blocked {
    mask_before: libc::sigset_t,
    /// One was waiting before: it is not ours to take away.
    pending_before: bool,
}

impl NoPipeSignal {
    fn new() -> Self {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: only asks, and `action` is a valid place for the answer.
        let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: it was filled if the call succeeded.
        let ignored = asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
        NoPipeSignal { _blocked: (!ignored).then(Blocked::new) }
    }
}

fn pipe_signal() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` fills the set, and a valid signal is added to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

impl Blocked {
    #[cold]
    fn new() -> Self {
        let mut pending = MaybeUninit::uninit();
        let mut mask_before = MaybeUninit::uninit();
        // SAFETY: both calls fill what they are given; they can't fail with valid arguments.
        unsafe {
            libc::sigpending(pending.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, &pipe_signal(), mask_before.as_mut_ptr());
            Blocked {
                mask_before: mask_before.assume_init(),
                pending_before: libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1,
            }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: all arguments are valid; nothing is written.
        unsafe {
            if !self.pending_before {
                // Takes the signal if there is one, and does not wait for it.
                libc::sigtimedwait(&pipe_signal(), ptr::null_mut(), &now);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask_before, ptr::null_mut());
        }
    }
}
