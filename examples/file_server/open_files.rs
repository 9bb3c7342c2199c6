//! The limit on open files.

// # Why this file has `unsafe`
// It makes two system calls that `std` has no functions for.

/// Raises the limit on open files as far as is allowed without privileges. Common limits allow for
/// a few hundred connections only, as each has a socket and the file that it is being sent.
///
/// If this fails, connections beyond the limit wait to be accepted.
pub(crate) fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads one `rlimit`.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}
