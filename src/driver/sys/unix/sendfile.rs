//! `sendfile(2)` that never blocks on the socket.
//!
//! It takes no "don't wait" flag; see [`without_waiting`]. Nor does it take `MSG_NOSIGNAL`; see [`SigPipe`].
//!
//! # Why this file has `unsafe`
//! It makes the system calls.

use super::{SigPipe, retry, without_waiting};
use crate::driver::Target;

/// Sends up to `len` bytes of `file` from `offset`: a count, 0 at the end of the file, or a negated
/// error number, `-EAGAIN` when the socket has no room. Also gives the number of system calls made.
pub(in crate::driver) fn sendfile(
    sigpipe: SigPipe,
    out: Target,
    file: Target,
    offset: u64,
    len: u32,
) -> (i32, u64) {
    let Ok(mut offset) = libc::off64_t::try_from(offset) else { return (-libc::EOVERFLOW, 0) };
    without_waiting(out, || {
        sigpipe.without(|| {
            retry(|| {
                // SAFETY: `offset` is a valid place for the kernel to update.
                unsafe { libc::sendfile64(out.fd, file.fd, &mut offset, len as usize) }
            })
        })
    })
}
