//! Whether the process was started with SIGHUP ignored.

// # Why this file has `unsafe`
// `sigaction(2)` takes a pointer to what it fills in.

use std::mem::MaybeUninit;

/// Returns `true` if SIGHUP is ignored, as under `nohup(1)`: then the process is to outlive its
/// terminal, and a handler would change that.
pub(crate) fn is_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer changes nothing, and the other one is that of `action`, a whole
    // `sigaction`, which all-zero bytes are a valid value of.
    let action = unsafe {
        libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
