//! Keeps `SIGPIPE` from ending the process.
//!
//! A write to a closed peer raises the signal, which ends a program that does not ignore it. std's
//! start-up code ignores it, but a program can change that at any time, and a library without `fn
//! main` in Rust never runs that code. So there are two ways:
//!
//! - If the signal is ignored when a context is made, nothing is lost by blocking it on the
//!   context's thread for as long as the context lives, and what the program changes later does not
//!   matter.
//! - Otherwise the program may rely on it, as where `println!` is to end the process quietly. It is
//!   blocked for the duration of each call that may raise it, and consumed if it was raised. The
//!   ring's writes are left to such calls.

// # Why this file has `unsafe`
// It makes the system calls for signals.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

/// Miri has no signals, nor the calls for them.
const HAS_SIGNALS: bool = !cfg!(miri);

/// How a thread is kept from getting `SIGPIPE`.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct SigPipe {
    /// By blocking it for each call; else it is blocked already.
    for_each_call: bool,
}

/// Blocks the signal on the thread of a driver until dropped, if the process ignored it before.
pub(in crate::driver) struct SigPipeBlock(Option<Blocked>);

impl SigPipeBlock {
    /// Blocks the signal on the calling thread, if the process ignores it.
    pub(in crate::driver) fn new() -> Self {
        SigPipeBlock((HAS_SIGNALS && is_ignored()).then(Blocked::new))
    }

    /// Returns how calls on this thread are made while `self` exists.
    #[inline(always)]
    pub(in crate::driver) fn get(&self) -> SigPipe {
        SigPipe { for_each_call: HAS_SIGNALS && self.0.is_none() }
    }
}

/// Returns `true` if the process ignores the signal at present.
fn is_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: changes nothing, as the new action is null; `action` is valid for writes.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: `sigaction` has filled it if it succeeded, which is checked first.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

impl SigPipe {
    /// Returns `true` if the signal must be blocked for each call.
    #[cfg(corio_uring)]
    pub(in crate::driver) fn is_for_each_call(self) -> bool {
        self.for_each_call
    }

    /// Makes a call during which this thread gets no `SIGPIPE`.
    #[inline(always)]
    pub(in crate::driver) fn without<R>(self, call: impl FnOnce() -> R) -> R {
        let _blocked = self.for_each_call.then(Blocked::new);
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
    blocked_before: bool,
    /// The signal was pending before, so it is not to be consumed.
    pending_before: bool,
    /// It is dropped on the thread that it was made on.
    _not_send: PhantomData<*const ()>,
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
                blocked_before: libc::sigismember(mask_before.as_ptr(), libc::SIGPIPE) == 1,
                pending_before: libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1,
                _not_send: PhantomData,
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
            if !self.blocked_before {
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &only_sigpipe(), ptr::null_mut());
            }
            *errno_place() = errno;
        }
    }
}
