//! System calls that would raise `SIGPIPE`, without it.
//!
//! A write to a peer that has gone raises `SIGPIPE`, which ends a program that does not ignore it.
//! std's start-up code has it ignored, but a program can have its own mind about that, and a library
//! without `fn main` in Rust never had that code run. There the signal is held back from this thread
//! for the time of the call, and taken away if it came.
//!
//! # Why this file has `unsafe`
//! It makes the system calls for signals.

use std::mem::MaybeUninit;
use std::ptr;

/// What has to be done about the signal, found out once.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct SigPipe {
    ignored: bool,
}

impl SigPipe {
    pub(in crate::driver) fn new() -> Self {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: only asks, and `action` is a valid place for the answer.
        let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: it was filled if the call succeeded.
        let ignored = asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
        SigPipe { ignored }
    }

    /// Makes a call without the signal.
    #[inline(always)]
    pub(in crate::driver) fn without<R>(self, call: impl FnOnce() -> R) -> R {
        let _held_back = (!self.ignored).then(HeldBack::new);
        call()
    }
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` fills the set, and a valid signal is added to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

#[cfg(any(target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_place;
#[cfg(target_os = "linux")]
use libc::__errno_location as errno_place;
#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as errno_place;

/// Keeps the signal from this thread until dropped.
struct HeldBack {
    mask_before: libc::sigset_t,
    /// One was waiting before: it is not ours to take away.
    pending_before: bool,
}

impl HeldBack {
    #[cold]
    fn new() -> Self {
        let mut pending = MaybeUninit::uninit();
        let mut mask_before = MaybeUninit::uninit();
        // SAFETY: both calls fill what they are given; they can't fail with valid arguments.
        unsafe {
            libc::sigpending(pending.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, &only_sigpipe(), mask_before.as_mut_ptr());
            HeldBack {
                mask_before: mask_before.assume_init(),
                pending_before: libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1,
            }
        }
    }
}

impl Drop for HeldBack {
    #[cold]
    fn drop(&mut self) {
        #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // The call's own error number is still to be read by the caller.
        let errno = super::errno();
        // SAFETY: all arguments are valid, and `errno` is this thread's.
        unsafe {
            if !self.pending_before {
                // Takes the signal if there is one, and does not wait for it.
                #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
                libc::sigtimedwait(&only_sigpipe(), ptr::null_mut(), &now);
                // Without that call: one that is there is waited for in no time.
                #[cfg(any(target_vendor = "apple", target_os = "openbsd"))]
                {
                    let (mut pending, mut signal) = (MaybeUninit::uninit(), 0);
                    libc::sigpending(pending.as_mut_ptr());
                    if libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 {
                        libc::sigwait(&only_sigpipe(), &mut signal);
                    }
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.mask_before, ptr::null_mut());
            *errno_place() = errno;
        }
    }
}
