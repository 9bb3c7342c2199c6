//! Turns each [`Request`] variant into one submission entry.

// # Why this file has `unsafe`
// It reads a socket address that a request points to.

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::driver::{Ending, Request, Target, sys};
use crate::os::RawFd;

/// Builds an entry on a registered file where there is one, else on the descriptor.
#[inline(always)]
pub(in crate::driver) fn on(target: Target, build: impl FnOnce(types::Fd) -> Entry) -> Entry {
    if target.slot < 0 {
        build(types::Fd(target.fd))
    } else {
        build(types::Fd(target.slot)).flags(Flags::FIXED_FILE)
    }
}

/// Builds a poll. One for urgent data also waits for `POLLRDBAND`, which sockets name beside
/// `POLLPRI` when they wake, and do not report: the kernel does not count `POLLPRI` by itself as a
/// cause to wake an entry.
#[inline(always)]
pub(super) fn poll(fd: Target, events: u32) -> Entry {
    let urgent = events & libc::POLLPRI as u32 != 0;
    let events = if urgent { events | libc::POLLRDBAND as u32 } else { events };
    on(fd, |fd| opcode::PollAdd::new(fd, events).build())
}

/// Builds a close; one that takes long is for a thread of the kernel. (Of others, the kernel hands
/// those to a thread whose file system flushes.)
pub(super) fn close(fd: RawFd, ending: Ending) -> Entry {
    let entry = opcode::Close::new(types::Fd(fd)).build();
    if ending == Ending::Disk { entry.flags(Flags::ASYNC) } else { entry }
}

#[inline(always)]
pub(super) fn entry(request: Request) -> Entry {
    use Request::*;
    match request {
        Nop => opcode::Nop::new().build(),
        Read { fd, ptr, len, offset } => {
            on(fd, |fd| opcode::Read::new(fd, ptr, len).offset(offset).build())
        }
        Write { fd, ptr, len, offset } => {
            on(fd, |fd| opcode::Write::new(fd, ptr, len).offset(offset).build())
        }
        Readv { fd, iov, count, offset } => {
            on(fd, |fd| opcode::Readv::new(fd, iov, count).offset(offset).build())
        }
        Writev { fd, iov, count, offset } => {
            on(fd, |fd| opcode::Writev::new(fd, iov, count).offset(offset).build())
        }
        Open { dir, path, flags, mode } => {
            opcode::OpenAt::new(types::Fd(dir), path).flags(flags).mode(mode).build()
        }
        Close { fd, ending } => close(fd, ending),
        Statx { dir, path, flags, out } => {
            let mask = sys::STATX_MASK;
            opcode::Statx::new(types::Fd(dir), path, out.cast()).flags(flags).mask(mask).build()
        }
        Accept { fd, addr, addr_len } => {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            on(fd, |fd| opcode::Accept::new(fd, addr, addr_len).flags(flags).build())
        }
        Connect { fd, addr, addr_len } => {
            on(fd, |fd| opcode::Connect::new(fd, addr, addr_len).build())
        }
        Recv { fd, ptr, len, flags } => {
            on(fd, |fd| opcode::Recv::new(fd, ptr, len).flags(flags).build())
        }
        Send { fd, ptr, len, flags } => {
            on(fd, |fd| opcode::Send::new(fd, ptr, len).flags(flags).build())
        }
        Recvmsg { fd, msg, flags } => {
            on(fd, |fd| opcode::RecvMsg::new(fd, msg).flags(flags).build())
        }
        Sendmsg { fd, msg, flags } => {
            on(fd, |fd| opcode::SendMsg::new(fd, msg).flags(flags).build())
        }
        Poll { fd, events } => poll(fd, events),
        Call { .. } | Sendfile { .. } | Splice { .. } | RecvProvided { .. } => {
            unreachable!("`start` carries it out")
        }
    }
}

/// Returns the ring's opcode for a request; `None`: it has none.
pub(super) fn opcode(request: &Request) -> Option<u8> {
    use Request::*;
    Some(match *request {
        Call { call, .. } => call.ring.as_ref()?.opcode,
        Nop => opcode::Nop::CODE,
        Read { .. } => opcode::Read::CODE,
        Write { .. } => opcode::Write::CODE,
        Readv { .. } => opcode::Readv::CODE,
        Writev { .. } => opcode::Writev::CODE,
        Open { .. } => opcode::OpenAt::CODE,
        Close { .. } => opcode::Close::CODE,
        Statx { .. } => opcode::Statx::CODE,
        Accept { .. } => opcode::Accept::CODE,
        Connect { .. } => opcode::Connect::CODE,
        Recv { .. } | RecvProvided { .. } => opcode::Recv::CODE,
        Send { .. } => opcode::Send::CODE,
        Recvmsg { .. } => opcode::RecvMsg::CODE,
        Sendmsg { .. } => opcode::SendMsg::CODE,
        Poll { .. } => opcode::PollAdd::CODE,
        Sendfile { .. } | Splice { .. } => return None,
    })
}

/// Returns `true` for a connect to a Unix listener, or a message to the path of a Unix socket,
/// whose queue is full: the operation's own socket is writable all the time, so that its readiness
/// says nothing.
///
/// # Safety
/// The memory that the request points to is in place (clause 1 of the contract).
#[cold]
pub(super) unsafe fn has_no_readiness(request: Request) -> bool {
    match request {
        Request::Connect { addr, addr_len, .. } => {
            addr_len as usize >= size_of::<libc::sa_family_t>()
                // SAFETY: `addr_len` bytes are in place, enough for the family, which comes first.
                && i32::from(unsafe { (*addr).sa_family }) == libc::AF_UNIX
        }
        // SAFETY: the memory is in place, as this function demands.
        _ => unsafe { sys::is_to_unix_address(&request) },
    }
}

/// Returns the readiness that a request waits for after `EAGAIN`, as `poll(2)` events.
pub(super) fn readiness(request: &Request) -> Option<(Target, u32)> {
    use Request::*;
    match *request {
        Read { fd, .. } | Readv { fd, .. } | Accept { fd, .. } => Some((fd, libc::POLLIN as u32)),
        Write { fd, .. } | Writev { fd, .. } => Some((fd, libc::POLLOUT as u32)),
        Recv { fd, flags, .. } if flags & libc::MSG_DONTWAIT == 0 => {
            let events = match flags {
                // `poll(2)` reports errors without being asked to.
                _ if flags & libc::MSG_ERRQUEUE != 0 => 0,
                _ if flags & libc::MSG_OOB != 0 => libc::POLLPRI,
                _ => libc::POLLIN,
            };
            Some((fd, events as u32))
        }
        Send { fd, flags, .. } if flags & libc::MSG_DONTWAIT == 0 => {
            Some((fd, libc::POLLOUT as u32))
        }
        Recvmsg { fd, flags, .. } if flags & libc::MSG_DONTWAIT as u32 == 0 => {
            Some((fd, libc::POLLIN as u32))
        }
        Sendmsg { fd, flags, .. } if flags & libc::MSG_DONTWAIT as u32 == 0 => {
            Some((fd, libc::POLLOUT as u32))
        }
        Connect { fd, .. } => Some((fd, libc::POLLOUT as u32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::calls;

    /// The opcodes whose operations have a variant of `Request`, and those of the driver itself.
    /// Polls and cancels are not among them: they have no substitute.
    const OWN: &[(&str, u8)] = &[
        ("NOP", opcode::Nop::CODE),
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("READV", opcode::Readv::CODE),
        ("WRITEV", opcode::Writev::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("STATX", opcode::Statx::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("RECVMSG", opcode::RecvMsg::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("TIMEOUT", opcode::Timeout::CODE),
        ("MSG_RING", opcode::MsgRingData::CODE),
    ];

    /// `.ci/refused` reads what this prints.
    #[test]
    fn every_call_of_the_tables_has_an_opcode_of_its_own_name() {
        for (name, code) in OWN {
            println!("opcode {code} {name}");
        }
        for (name, call) in [calls::fs::ALL, calls::net::ALL].concat() {
            if let Some(ring) = &call.ring {
                println!("opcode {} {name}", ring.opcode);
                assert!(OWN.iter().all(|&(_, own)| own != ring.opcode), "{name}");
            }
        }
    }
}
