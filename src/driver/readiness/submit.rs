//! Decides for each [`Request`] variant in which way it is carried out.

use super::table::Side;
use crate::driver::call::Fallback;
use crate::driver::sys::advance;
use crate::driver::{Pages, Request, Target};
use crate::os;

/// How a request is carried out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Nothing has to be done.
    Nothing,
    /// By a call that never blocks.
    Now,
    /// By a call that does not block, repeated when the file may be ready.
    Wait(Target, Side),
    /// By such a call, or on a thread if the file is one of a disk.
    File(Target, Side),
    /// By a call on a thread that may block.
    Thread,
}

#[inline(always)]
pub(super) fn way(request: &Request) -> Way {
    use Request::*;
    match *request {
        Nop => Way::Nothing,
        Read { fd, .. } | Readv { fd, .. } => Way::File(fd, Side::Read),
        Write { fd, .. } | Writev { fd, .. } => Way::File(fd, Side::Write),
        Recv { fd, flags, .. } => Way::Wait(fd, receiving(flags)),
        Recvmsg { fd, flags, .. } => Way::Wait(fd, receiving(flags as i32)),
        Accept { fd, .. } | RecvProvided { fd, .. } => Way::Wait(fd, Side::Read),
        Send { fd, .. } | Sendmsg { fd, .. } | Connect { fd, .. } => Way::Wait(fd, Side::Write),
        Sendfile { pages: Pages::Missing, .. } => Way::Thread,
        Sendfile { out, .. } => Way::Wait(out, Side::Write),
        #[cfg(target_os = "linux")]
        Splice { socket, into_pipe: true, .. } => Way::Wait(socket, Side::Read),
        #[cfg(target_os = "linux")]
        Splice { socket, .. } => Way::Wait(socket, Side::Write),
        Poll { fd, .. } => Way::Wait(fd, Side::Other),
        Call { call, .. } => match call.fallback {
            Fallback::Inline => Way::Now,
            Fallback::Pool => Way::Thread,
        },
        Open { .. } | Close { .. } | Statx { .. } => Way::Thread,
    }
}

/// Returns the side that a receive waits for. Urgent data and errors have queues of their own,
/// apart from plain data.
fn receiving(flags: i32) -> Side {
    if flags & (os::MSG_OOB | os::MSG_ERRQUEUE) == 0 { Side::Read } else { Side::Other }
}

/// Returns `true` if the request is to fail where it would block (`MSG_DONTWAIT`).
#[inline(always)]
pub(super) fn never_waits(request: &Request) -> bool {
    match *request {
        Request::Recv { flags, .. } | Request::Send { flags, .. } => flags & os::MSG_DONTWAIT != 0,
        Request::Recvmsg { flags, .. } | Request::Sendmsg { flags, .. } => {
            flags & os::MSG_DONTWAIT as u32 != 0
        }
        _ => false,
    }
}

/// Returns the rest of a request of which `done` bytes have been moved.
pub(super) fn rest(request: Request, done: u32) -> Request {
    use Request::*;
    match request {
        Read { fd, ptr, len, offset } => {
            let ptr = ptr.wrapping_add(done as usize);
            Read { fd, ptr, len: len - done, offset: advance(offset, done) }
        }
        request => request,
    }
}
