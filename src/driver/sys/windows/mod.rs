//! System calls of Windows, as `std` and `socket2` make them.

// # Why this file has `unsafe`
// It uses sockets by their numbers.

mod attempt;
mod block;

use std::io;
use std::mem::ManuallyDrop;
use std::os::windows::io::{AsRawHandle, AsRawSocket, FromRawSocket};

use socket2::{Socket, Type};

pub(in crate::driver) use attempt::{attempt, connected, shutdown};
pub(in crate::driver) use block::{block, fallocate, file, path_of, start_from};

use super::Kind;
use crate::driver::sys::Counted;
use crate::driver::{Ending, Request};
use crate::os::{self, IntoRawFd, OwnedFd, RawFd};

/// Windows has no `SIGPIPE`.
#[derive(Clone, Copy, Debug)]
pub(in crate::driver) struct SigPipe;

/// Nothing is blocked, either.
pub(in crate::driver) struct SigPipeBlock;

impl SigPipeBlock {
    pub(in crate::driver) fn new() -> Self {
        SigPipeBlock
    }

    #[inline(always)]
    pub(in crate::driver) fn get(&self) -> SigPipe {
        SigPipe
    }
}

/// Borrows the socket of that number, which its owner keeps open and closes.
fn socket(fd: RawFd) -> ManuallyDrop<Socket> {
    // SAFETY: the value is never dropped; calls on a number that is no socket fail.
    ManuallyDrop::new(unsafe { Socket::from_raw_socket(os::raw_socket(fd)) })
}

/// Turns a system call's outcome into a result as the contract defines it.
pub(in crate::driver) fn outcome(result: io::Result<usize>) -> i32 {
    match result {
        Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
        Err(error) => -error.raw_os_error().unwrap_or(os::EIO),
    }
}

/// Returns the result of a request that opens a file. One whose handle does not fit is closed
/// again.
fn made(file: OwnedFd) -> i32 {
    let value = match &file {
        OwnedFd::Socket(socket) => socket.as_raw_socket() as u64,
        OwnedFd::File(file) => file.as_raw_handle() as u64,
    };
    if fits(value) { file.into_raw_fd() } else { -os::EMFILE }
}

/// Returns `true` if a handle fits a descriptor's number, and is no negated error number. Windows
/// hands out small values, but guarantees only that 32 bits are significant.
fn fits(handle: u64) -> bool {
    i32::try_from(handle).is_ok()
}

/// Returns the kind of a file.
pub(in crate::driver) fn kind(fd: RawFd) -> Kind {
    if is_socket(fd) { Kind::Other } else { Kind::Disk }
}

/// Returns how long the close of `file`, which is open, may take.
pub(in crate::driver) fn ending(file: RawFd) -> Counted<Ending> {
    if !is_socket(file) {
        return Counted::new(Ending::Disk, 1);
    }
    let lingers = matches!(socket(file).linger(), Ok(Some(time)) if !time.is_zero());
    Counted::new(if lingers { Ending::Waits } else { Ending::AtOnce }, 2)
}

/// Returns `false`: no file of this host makes an open wait for ever.
///
/// # Safety
/// Nothing is required; on Unix it is.
pub(in crate::driver) unsafe fn open_waits(_: &Request) -> bool {
    false
}

/// Duplicates the handle of the directory that a path starts from; `None` for the current
/// directory.
pub(in crate::driver) fn duplicate_dir(dir: RawFd) -> io::Result<Option<OwnedFd>> {
    if dir == os::AT_FDCWD {
        return Ok(None);
    }
    block::file(dir).try_clone().map(|dir| Some(dir.into()))
}

/// Returns `false`: messages to paths do not exist on Windows.
///
/// # Safety
/// Nothing is required; on Unix it is.
pub(in crate::driver) unsafe fn is_to_unix_address(_: &Request) -> bool {
    false
}

/// Returns the kind of a socket.
pub(in crate::driver) fn socket_kind(_: RawFd) -> Kind {
    Kind::Other
}

pub(in crate::driver) fn is_socket(fd: RawFd) -> bool {
    socket(fd).r#type().is_ok()
}

/// Returns `true` if a socket carries a stream of bytes, not messages.
pub(in crate::driver) fn is_stream(fd: RawFd) -> bool {
    socket(fd).r#type().is_ok_and(|ty| ty == Type::STREAM)
}

/// Windows has no reads that are limited to memory.
///
/// # Safety
/// Nothing is required; on Linux it is.
pub(in crate::driver) unsafe fn read_cached(_: RawFd, _: *mut u8, _: u32, _: u64) -> i32 {
    -os::EAGAIN
}

/// Windows has no limit that matters.
pub(in crate::driver) fn file_limit() -> u64 {
    u64::MAX
}

/// Windows has no signals.
pub(in crate::driver) fn block_signals() {}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_handle_that_would_read_as_an_error_or_as_another_is_no_descriptor() {
        assert!(fits(4));
        assert!(fits(0x7fff_ffff));
        assert!(!fits(0x8000_0000));
        assert!(!fits(0x1_0000_0004));
        assert!(!fits(u64::MAX));
    }
}
