//! Transfers that are to be whole (`MSG_WAITALL`), made of several calls.

// # Why this file has `unsafe`
// It has requests carried out with the memory that they name.

use super::sys::{self, Counted, SigPipe};
use super::{Record, Request};
use crate::os;

/// Whether a request goes on until all its bytes have been moved.
#[inline(always)]
pub(super) fn wants_all(request: &Request) -> bool {
    match *request {
        Request::Recv { flags, .. } | Request::Send { flags, .. } => {
            flags & os::MSG_WAITALL != 0 && flags & os::MSG_DONTWAIT == 0
        }
        _ => false,
    }
}

/// Makes calls until all is moved, or none is possible without waiting: the number of bytes, or
/// `-EAGAIN`. The record's result is the number of bytes moved so far.
///
/// # Safety
/// 1. The operation of `record` is in flight, and `request` is its own.
/// 2. Nothing else uses the memory that the request names.
#[cold]
pub(super) unsafe fn attempt(record: &Record, request: Request, sigpipe: SigPipe) -> Counted<i32> {
    let (Request::Recv { fd, len, .. } | Request::Send { fd, len, .. }) = request else {
        unreachable!("`wants_all` knows no other")
    };
    let mut syscalls = 0;
    loop {
        let done = record.result.get();
        // SAFETY: the memory is there (1) and not used otherwise (2); the rest is a part of it.
        let tried = unsafe { sys::attempt(rest(request, done as u32), sigpipe) };
        syscalls += tried.syscalls;
        let ended = match tried.result {
            again if again == -os::EAGAIN => again,
            moved @ 1.. => {
                let done = done + moved;
                record.result.set(done);
                // A datagram is never more than one.
                if (done as u32) < len && sys::is_stream(fd.fd) {
                    continue;
                }
                done
            }
            _ if done > 0 => done,
            result => result,
        };
        return Counted::new(ended, syscalls);
    }
}

/// The rest of a request of which `done` bytes have been moved.
fn rest(request: Request, done: u32) -> Request {
    match request {
        Request::Recv { fd, ptr, len, flags } => {
            let ptr = ptr.wrapping_add(done as usize);
            Request::Recv { fd, ptr, len: len - done, flags }
        }
        Request::Send { fd, ptr, len, flags } => {
            let ptr = ptr.wrapping_add(done as usize);
            Request::Send { fd, ptr, len: len - done, flags }
        }
        request => request,
    }
}
