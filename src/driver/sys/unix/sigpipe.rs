//! Suppresses `SIGPIPE` for the duration of a system call.
//!
//! A write to a closed peer raises `SIGPIPE`, which ends a program that does not ignore it. std's
//! start-up code ignores it, but a program can change that, and a library without `fn main` in Rust
//! never runs that code. In such a process the signal is blocked on this thread for the duration of
//! the call, and consumed if it was raised.

// # Why this file has `unsafe`
// It makes the system calls for signals.

use std::mem::MaybeUninit;
use std::ptr;

/// Whether the process ignores `SIGPIPE`, determined once.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct SigPipe {
    ignored: bool,
}

impl SigPipe {
    pub(in crate::driver) fn new() -> Self {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: changes nothing, as the new action is null; `action` is valid for writes.
        let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: `sigaction` has filled it if it succeeded, which is checked first.
        let ignored = asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN;
        SigPipe { ignored }
    }

    /// Makes a call during which this thread gets no `SIGPIPE`.
    #[inline(always)]
    pub(in crate::driver) fn without<R>(self, call: impl FnOnce() -> R) -> R {
        let _blocked = (!self.ignored).then(Blocked::new);
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

/// Blocks the signal on this thread until dropped.
struct Blocked {
    mask_before: libc::sigset_t,
    /// The signal was pending before, so it is not to be consumed.
    pending_before: bool,
}

impl Blocked {
    #[cold]
    fn new() -> Self {
        let mut pending = MaybeUninit::uninit();
        let mut mask_before = MaybeUninit::uninit();
        // SAFETY: both calls fill the set that they get; with valid arguments they cannot fail.
        unsafe {
            libc::sigpending(pending.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, &only_sigpipe(), mask_before.as_mut_ptr());
            Blocked {
                mask_before: mask_before.assume_init(),
                pending_before: libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1,
            }
        }
    }
}

impl Drop for Blocked {
    #[cold]
    fn drop(&mut self) {
        #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // The caller has yet to read the call's own error number.
        let errno = super::errno();
        // SAFETY: all arguments are valid, and `errno` is this thread's.
        unsafe {
            if !self.pending_before {
                // Consumes the signal if it is pending, without waiting for it.
                #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
                libc::sigtimedwait(&only_sigpipe(), ptr::null_mut(), &now);
                // Hosts without that call: waiting for a pending signal returns at once.
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
