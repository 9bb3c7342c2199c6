//! Requests on sockets, carried out without waiting.
//!
//! # Why this file has `unsafe`
//! It uses memory that a request names.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::ptr;

use socket2::{MaybeUninitSlice, RecvFlags, SockAddr, SockAddrStorage};
use windows_sys::Win32::Foundation::ERROR_BROKEN_PIPE;
use windows_sys::Win32::Networking::WinSock::{self as winsock, WSAPOLLFD, WSAPoll};

use super::block::read_at;
use super::{SigPipe, is_socket, made, outcome, socket};
use crate::driver::{Request, Target};
use crate::os::{self, RawFd};

/// The most buffers in one call; more are left for the next.
const BUFFERS: usize = 64;

/// How much of a file is sent in one go.
const CHUNK: usize = 64 * 1024;

/// Carries a request out, or says `-EAGAIN` where that would mean to wait; also gives the number of
/// system calls.
///
/// # Safety
/// All memory that the request names is there, and not used otherwise.
pub(in crate::driver) unsafe fn attempt(request: Request, _: SigPipe) -> (i32, u64) {
    use Request::*;
    // SAFETY: in all of these, what the caller promises.
    unsafe {
        match request {
            Recv { fd, ptr, len, flags } => in_non_blocking_mode(fd, || recv(fd, ptr, len, flags)),
            Send { fd, ptr, len, flags } => in_non_blocking_mode(fd, || send(fd, ptr, len, flags)),
            Read { fd, ptr, len, .. } => in_non_blocking_mode(fd, || recv(fd, ptr, len, 0)),
            Write { fd, ptr, len, .. } => in_non_blocking_mode(fd, || send(fd, ptr, len, 0)),
            Readv { fd, iov, count, .. } => in_non_blocking_mode(fd, || {
                let mut buffers = buffers_mut(iov, count as usize);
                let count = buffers.1;
                outcome(socket(fd.fd).recv_vectored(&mut buffers.0[..count]).map(|(len, _)| len))
            }),
            Writev { fd, iov, count, .. } => in_non_blocking_mode(fd, || {
                let (buffers, count) = buffers(iov, count as usize);
                sent(socket(fd.fd).send_vectored(&buffers[..count]))
            }),
            Recvmsg { fd, msg, flags } => {
                in_non_blocking_mode(fd, || recvmsg(fd, &mut *msg, flags as i32))
            }
            Sendmsg { fd, msg, flags } => {
                in_non_blocking_mode(fd, || sendmsg(fd, &*msg, flags as i32))
            }
            Accept { fd, addr, addr_len } => {
                in_non_blocking_mode(fd, || accept(fd, addr, addr_len))
            }
            Connect { fd, addr, addr_len } => in_non_blocking_mode(fd, || {
                let address = address(addr.cast(), addr_len);
                match outcome(socket(fd.fd).connect(&address).map(|()| 0)) {
                    error if error == -os::EAGAIN => -os::EINPROGRESS,
                    result => result,
                }
            }),
            Call { call, args, .. } => (call.perform(args.as_ref()), 1),
            Poll { fd, events } => (poll(fd.fd, events), 1),
            Sendfile { out, file, offset, len, .. } => {
                in_non_blocking_mode(out, || sendfile(out, file, offset, len))
            }
            Nop | Open { .. } | Close { .. } | Statx { .. } | RecvProvided { .. } => {
                unreachable!("{request:?} is not for attempts")
            }
        }
    }
}

/// Nobody can ask a socket for its mode, so one that came from elsewhere is left in this one.
fn in_non_blocking_mode(on: Target, call: impl FnOnce() -> i32) -> (i32, u64) {
    if on.nonblocking {
        return (call(), 1);
    }
    if !is_socket(on.fd) {
        return (-winsock::WSAENOTSOCK, 1);
    }
    match socket(on.fd).set_nonblocking(true) {
        Ok(()) => (call(), 2),
        Err(error) => (outcome(Err(error)), 1),
    }
}

/// Flags for the system: not our own, nor one that it takes for blocking sockets only.
fn known(flags: i32) -> i32 {
    flags & (os::MSG_OOB | os::MSG_PEEK | os::MSG_DONTROUTE)
}

unsafe fn recv(fd: Target, ptr: *mut u8, len: u32, flags: i32) -> i32 {
    // SAFETY: what the caller promises.
    let room = unsafe { memory(ptr, len as usize) };
    match outcome(socket(fd.fd).recv_with_flags(room, known(flags))) {
        // A datagram that was too long: as much as there was room for.
        error if error == -winsock::WSAEMSGSIZE => len as i32,
        // The peer has been told that nothing is received any more.
        error if error == -winsock::WSAESHUTDOWN => 0,
        result => result,
    }
}

unsafe fn send(fd: Target, ptr: *const u8, len: u32, flags: i32) -> i32 {
    // SAFETY: what the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(non_null(ptr), len as usize) };
    sent(socket(fd.fd).send_with_flags(bytes, known(flags)))
}

/// The outcome of a send. After one's own shutdown it is a broken pipe elsewhere.
fn sent(result: io::Result<usize>) -> i32 {
    match outcome(result) {
        error if error == -winsock::WSAESHUTDOWN => -(ERROR_BROKEN_PIPE as i32),
        result => result,
    }
}

/// An empty buffer may have any address.
fn non_null(ptr: *const u8) -> *const u8 {
    if ptr.is_null() { ptr::dangling() } else { ptr }
}

unsafe fn memory<'a>(ptr: *mut u8, len: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: what the caller promises.
    unsafe { std::slice::from_raw_parts_mut(non_null(ptr).cast_mut().cast(), len) }
}

unsafe fn buffers<'a>(iov: *const os::iovec, count: usize) -> ([IoSlice<'a>; BUFFERS], usize) {
    let count = count.min(BUFFERS);
    let mut slices: [IoSlice<'a>; BUFFERS] = std::array::from_fn(|_| IoSlice::new(&[]));
    for (index, slice) in slices[..count].iter_mut().enumerate() {
        // SAFETY: what the caller promises.
        unsafe {
            let one = *iov.add(index);
            let bytes = std::slice::from_raw_parts(non_null(one.iov_base.cast()), one.iov_len);
            *slice = IoSlice::new(bytes);
        }
    }
    (slices, count)
}

unsafe fn buffers_mut<'a>(
    iov: *const os::iovec,
    count: usize,
) -> ([MaybeUninitSlice<'a>; BUFFERS], usize) {
    let count = count.min(BUFFERS);
    let slices = std::array::from_fn(|index| {
        if index >= count {
            return MaybeUninitSlice::new(&mut []);
        }
        // SAFETY: what the caller promises.
        unsafe {
            let one = *iov.add(index);
            MaybeUninitSlice::new(memory(one.iov_base.cast(), one.iov_len))
        }
    });
    (slices, count)
}

unsafe fn address(ptr: *const u8, len: os::socklen_t) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let len = (len as usize).min(size_of::<SockAddrStorage>());
    // SAFETY: `len` bytes are there, and fit; all bytes of the storage are plain data.
    unsafe {
        ptr::copy_nonoverlapping(ptr, (&raw mut storage).cast(), len);
        SockAddr::new(storage, len as os::socklen_t)
    }
}

/// Writes an address where a request wants it.
unsafe fn tell(address: &SockAddr, place: *mut u8, len: &mut os::socklen_t) {
    let count = (address.len() as usize).min(*len as usize);
    // SAFETY: there is room for as much as `len` says.
    unsafe { ptr::copy_nonoverlapping(address.as_ptr().cast(), place, count) };
    *len = address.len();
}

unsafe fn accept(fd: Target, addr: *mut os::sockaddr, len: *mut os::socklen_t) -> i32 {
    let accepted = socket(fd.fd).accept().and_then(|(accepted, address)| {
        accepted.set_nonblocking(true)?;
        // SAFETY: what the caller promises.
        unsafe { tell(&address, addr.cast(), &mut *len) };
        Ok(accepted)
    });
    match accepted {
        Ok(accepted) => made(accepted.into()),
        Err(error) => outcome(Err(error)),
    }
}

unsafe fn recvmsg(fd: Target, msg: &mut os::msghdr, flags: i32) -> i32 {
    // SAFETY: what the caller promises.
    let (mut slices, count) = unsafe { buffers_mut(msg.msg_iov, msg.msg_iovlen) };
    let room: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    msg.msg_flags = 0;
    let socket = socket(fd.fd);
    let slices = &mut slices[..count];
    let received = socket.recv_from_vectored_with_flags(slices, known(flags));
    match received {
        Ok((mut len, how, address)) => {
            if RecvFlags::is_truncated(how) {
                // As much as there was room for; the system need not say so.
                (msg.msg_flags, len) = (os::MSG_TRUNC, room);
            }
            // SAFETY: what the caller promises.
            unsafe { tell(&address, msg.msg_name.cast(), &mut msg.msg_namelen) };
            outcome(Ok(len))
        }
        Err(error) if error.raw_os_error() == Some(winsock::WSAEMSGSIZE) => {
            msg.msg_flags |= os::MSG_TRUNC;
            msg.msg_namelen = 0;
            outcome(Ok(room))
        }
        Err(error) => outcome(Err(error)),
    }
}

unsafe fn sendmsg(fd: Target, msg: &os::msghdr, flags: i32) -> i32 {
    // SAFETY: what the caller promises.
    let (slices, count) = unsafe { buffers(msg.msg_iov, msg.msg_iovlen) };
    let (socket, slices) = (socket(fd.fd), &slices[..count]);
    if msg.msg_name.is_null() {
        return sent(socket.send_vectored_with_flags(slices, known(flags)));
    }
    // SAFETY: what the caller promises.
    let address = unsafe { address(msg.msg_name.cast(), msg.msg_namelen) };
    sent(socket.send_to_vectored_with_flags(slices, &address, known(flags)))
}

/// Through a buffer. What the socket does not take is read again.
unsafe fn sendfile(out: Target, file: Target, offset: u64, len: u32) -> i32 {
    let mut buffer = [0u8; CHUNK];
    let room = CHUNK.min(len as usize);
    // SAFETY: there is that much room.
    match unsafe { read_at(file.fd, buffer.as_mut_ptr(), room as u32, offset) } {
        read @ 1.. => sent(socket(out.fd).send(&buffer[..read as usize])),
        result => result,
    }
}

/// `WSAPoll` without waiting: the events that are there, or `-EAGAIN`.
fn poll(fd: RawFd, events: u32) -> i32 {
    if !is_socket(fd) {
        // Other files never have to be waited for.
        return events as i32 & i32::from(os::POLLIN | os::POLLOUT);
    }
    // What it does not know, such as POLLPRI, it refuses.
    let wanted = events as i16 & (os::POLLIN | os::POLLOUT);
    let socket = os::raw_socket(fd) as winsock::SOCKET;
    let mut entry = WSAPOLLFD { fd: socket, events: wanted, revents: 0 };
    // SAFETY: one valid entry.
    match unsafe { WSAPoll(&mut entry, 1, 0) } {
        0 => -os::EAGAIN,
        1 => i32::from(entry.revents),
        _ => outcome(Err(io::Error::last_os_error())),
    }
}

/// How the connect of a socket that was reported ready has gone: 0, a negated error number, or
/// `-EAGAIN` if it is still under way.
pub(in crate::driver) fn connected(fd: RawFd) -> i32 {
    let socket = socket(fd);
    match socket.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return outcome(Err(error)),
    }
    match outcome(socket.peer_addr().map(|_| 0)) {
        error if error == -winsock::WSAENOTCONN => -os::EAGAIN,
        result => result,
    }
}

/// Shuts a socket down; `how` as in `shutdown(2)`.
pub(in crate::driver) fn shutdown(fd: RawFd, how: i32) -> i32 {
    let how = match how {
        os::SHUT_RD => Shutdown::Read,
        os::SHUT_WR => Shutdown::Write,
        _ => Shutdown::Both,
    };
    outcome(socket(fd).shutdown(how).map(|()| 0))
}
