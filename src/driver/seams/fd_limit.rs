//! The limit on open files. A simulated world has none.

// # Why this file has `unsafe`
// `std` has no functions for resource limits.

/// Raises the soft limit on open files to the hard limit; see getrlimit(2). If that fails, the
/// limit stays as it is.
#[cfg(unix)]
pub(crate) fn raise() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`, for which `limit` has room.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // That host has a limit of its own (`OPEN_MAX`), and refuses "infinity".
        #[cfg(target_vendor = "apple")]
        if limit.rlim_cur == libc::RLIM_INFINITY {
            limit.rlim_cur = 10_240;
        }
        // SAFETY: the kernel reads one `rlimit`.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Does nothing: this host has no such limit.
#[cfg(windows)]
pub(crate) fn raise() {}
