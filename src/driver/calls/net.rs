//! Plain system calls on sockets.

// # Why this file has `unsafe`
// It makes system calls.

use crate::driver::call::Host::Does;
use crate::driver::call::{Args, calls};
#[cfg(unix)]
use crate::driver::sys::retry;
#[cfg(corio_uring)]
use crate::driver::uring::on;
#[cfg(corio_uring)]
use io_uring::opcode;

calls! {
    /// `shutdown(2)`. `files[0]`; `words[0]`: which side.
    SHUTDOWN {
        ring: (Shutdown, |args| on(args.files[0], |fd| {
            opcode::Shutdown::new(fd, args.int(0)).build()
        })),
        fallback: Inline,
        unix: Does(shutdown),
        windows: Does(shutdown),
    }
}

#[cfg(unix)]
unsafe fn shutdown(args: &Args) -> i32 {
    // SAFETY: passes no memory.
    retry(|| unsafe { libc::shutdown(args.files[0].fd, args.int(0)) as isize })
}

#[cfg(windows)]
unsafe fn shutdown(args: &Args) -> i32 {
    crate::driver::sys::shutdown(args.files[0].fd, args.int(0))
}
