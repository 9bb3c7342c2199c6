//! Detects that the process was copied by `fork(2)`, and cuts the copy of a context off from what
//! belongs to the parent.
//!
//! Only the thread that called `fork` exists in the child, so one context at most is concerned:
//! that of this thread. Its driver is replaced by one that does nothing ([`Forked`]), and its
//! operations in flight end with `ECANCELED`: the kernel works for the parent, in the parent's
//! memory. From then on the child can drop what it has, as everywhere else.
//!
//! A handler of `pthread_atfork(3)` does that, so that nothing needs to be checked while a context
//! runs. It makes no system call, and allocates only where a waker of another executor waits.
//! `vfork`, `posix_spawn` and `clone` by number run no handlers: after those a child may only call
//! `exec` or `_exit` in any case.
//!
//! [`Forked`]: crate::driver::Forked

// # Why this file has `unsafe`
// It registers the handler, and follows a thread-local pointer to the runtime.

use std::cell::Cell;
use std::ptr;
use std::sync::Once;

use super::Runtime;

thread_local! {
    /// The runtime of this thread's context, running or not; null if it has none.
    static LIVE: Cell<*const Runtime> = const { Cell::new(ptr::null()) };
}

/// Notes the runtime of this thread's context for the child of a later `fork`.
///
/// # Safety
/// The runtime stays in place until [`clear`] is called on this thread.
pub(crate) unsafe fn set(runtime: &Runtime) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // Fails only without memory; forks are not detected then.
        #[cfg(not(miri))]
        // SAFETY: the handler is a function of this program.
        unsafe {
            pthread_atfork(None, None, Some(in_child));
        }
    });
    LIVE.set(runtime);
}

/// Ends what [`set`] began.
pub(crate) fn clear() {
    LIVE.set(ptr::null());
}

// The `libc` crate has it for some hosts only.
#[cfg(not(miri))]
unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> i32;
}

#[cfg_attr(miri, allow(dead_code))]
unsafe extern "C" fn in_child() {
    // SAFETY: `set` was called for it, and `clear` was not, so that it is in place.
    if let Some(runtime) = unsafe { LIVE.get().as_ref() } {
        runtime.leave_to_parent();
    }
}
