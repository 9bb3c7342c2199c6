//! Seccomp filters, which make the kernel refuse system calls.

// # Why this file has `unsafe`
// It makes the system calls that set them.

use std::io;

pub(crate) const SETUP: u32 = libc::SYS_io_uring_setup as u32;
pub(crate) const ENTER: u32 = libc::SYS_io_uring_enter as u32;
pub(crate) const REGISTER: u32 = libc::SYS_io_uring_register as u32;

/// Makes the kernel answer `errno` to the system calls in `calls`, for the rest of this thread.
pub(crate) fn forbid(calls: std::ops::RangeInclusive<u32>, errno: i32) -> io::Result<()> {
    let ld = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = |kind| (libc::BPF_JMP | kind | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // A filter's input begins with the number of the call.
        step(ld, 0, 0, 0),
        step(jump(libc::BPF_JGE), 0, 2, *calls.start()),
        step(jump(libc::BPF_JGT), 1, 0, *calls.end()),
        step(ret, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a valid program, copied by the kernel.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this system has seccomp filters; prints that tests are left out if not.
pub(crate) fn is_here() -> bool {
    // SAFETY: passes no memory.
    let known = unsafe { libc::prctl(libc::PR_GET_SECCOMP) } >= 0;
    if !known {
        eprintln!("left out: this system has no seccomp filters");
    }
    known
}
