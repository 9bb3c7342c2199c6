//! File descriptors in the control data of messages over Unix sockets (`SCM_RIGHTS`).

// # Why this file has `unsafe`
// It writes and reads the kernel's format of control data.

use crate::os::{self, OwnedFd};
#[cfg(unix)]
use crate::os::{AsRawFd, FromRawFd, RawFd};

/// Room for the control data of a received message: 60 fds.
pub(super) const CONTROL_LEN: usize = 256;
#[cfg(unix)]
const _: () = assert!(size_of::<libc::cmsghdr>() + 60 * size_of::<RawFd>() <= CONTROL_LEN);

/// The size of control data that carries `count` fds, padding at the end included.
#[cfg(unix)]
pub(super) fn control_len(count: usize) -> usize {
    // SAFETY: computes a number.
    unsafe { libc::CMSG_SPACE((count * size_of::<RawFd>()) as u32) as usize }
}

/// Control data that carries `fds`.
#[cfg(unix)]
pub(super) fn rights(fds: &[OwnedFd]) -> Vec<u64> {
    let len = control_len(fds.len());
    let mut control = vec![0u64; len.div_ceil(size_of::<u64>())];
    let mut header = os::EMPTY_HEADER;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = len as _;
    // SAFETY: `control` has room for one header and the fds, by `CMSG_SPACE`, and is aligned for
    // both.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = libc::CMSG_LEN(size_of_val(fds) as u32) as _;
        let data = libc::CMSG_DATA(message).cast::<RawFd>();
        for (index, fd) in fds.iter().enumerate() {
            data.add(index).write_unaligned(fd.as_raw_fd());
        }
    }
    control
}

/// Takes the fds out of control data.
///
/// # Safety
/// The header's control data was written by the kernel for this process, and is taken once.
#[cfg(unix)]
pub(super) unsafe fn received_fds(header: &os::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: `CMSG_*` walk the control data within its length; each `SCM_RIGHTS` message holds as
    // many fds as its length says, new ones that are ours.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(this) = message.as_ref() {
            if this.cmsg_level == libc::SOL_SOCKET && this.cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(this).cast::<RawFd>();
                #[allow(clippy::unnecessary_cast)] // The type differs from host to host.
                let len = this.cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..len / size_of::<RawFd>() {
                    let fd = data.add(index).read_unaligned();
                    if os::MSG_CMSG_CLOEXEC == 0 {
                        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                    }
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    fds
}

// Windows has no way to send a file descriptor along.

#[cfg(windows)]
pub(super) fn control_len(_: usize) -> usize {
    0
}

#[cfg(windows)]
pub(super) fn rights(_: &[OwnedFd]) -> Vec<u64> {
    Vec::new()
}

#[cfg(windows)]
pub(super) unsafe fn received_fds(_: &os::msghdr) -> Vec<OwnedFd> {
    Vec::new()
}
