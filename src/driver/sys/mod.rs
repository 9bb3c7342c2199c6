//! System calls that drivers make themselves, because the host has no better way.
//!
//! # Why this file has `unsafe`
//! It makes a system call.

mod sendfile;
mod sigpipe;

pub(super) use sendfile::sendfile;
pub(super) use sigpipe::SigPipe;

use super::Target;

/// `ftruncate(2)`: 0 or a negated error number.
#[cold]
pub(super) fn ftruncate(target: Target, len: u64) -> i32 {
    // SAFETY: a plain system call on an fd that the operation keeps open.
    let result = unsafe { libc::ftruncate64(target.fd, len.min(i64::MAX as u64) as i64) };
    if result < 0 { -errno() } else { result }
}

/// The calling thread's last error number.
fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
