//! Requests on sockets, carried out without blocking.

// # Why this file has `unsafe`
// It uses memory that a request names.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::ptr;

use socket2::{MaybeUninitSlice, RecvFlags, SockAddr, SockAddrStorage};
use windows_sys::Win32::Foundation::ERROR_BROKEN_PIPE;
use windows_sys::Win32::Networking::WinSock::{self as winsock, WSAPOLLFD, WSAPoll};

use super::block::read_at;
use super::{SigPipe, is_socket, made, outcome, socket};
use crate::driver::sys::Counted;
use crate::driver::{Request, Target};
use crate::os::{self, RawFd};

/// The most buffers in one call; the rest is left for the next call.
const BUFFERS: usize = 64;

/// How many bytes of a file one call sends.
const CHUNK: usize = 64 * 1024;

/// Carries a request out, or returns `-EAGAIN` where that would block.
///
/// # Safety
/// Clauses 1 and 2 of the [contract](crate::driver) hold for all memory that the request points to.
pub(in crate::driver) unsafe fn attempt(request: Request, _: SigPipe) -> Counted<i32> {
    use Request::*;
    // SAFETY: in every arm the function gets only pointers of the request, with the lengths that
    // belong to them: by clause 1 that memory is in place, by clause 2 the call may use it.
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
            Call { call, args, .. } => Counted::new(call.perform(args.as_ref()), 1),
            Poll { fd, events } => Counted::new(poll(fd.fd, events), 1),
            Sendfile { out, file, offset, len, .. } => {
                in_non_blocking_mode(out, || sendfile(out, file, offset, len))
            }
            Nop | Open { .. } | Close { .. } | Statx { .. } | RecvProvided { .. } => {
                unreachable!("{request:?} has no call that does not block")
            }
        }
    }
}

/// Makes a call on a socket in non-blocking mode. Windows cannot report a socket's mode, so one
/// that came from elsewhere is left in that mode.
fn in_non_blocking_mode(on: Target, call: impl FnOnce() -> i32) -> Counted<i32> {
    if on.nonblocking {
        return Counted::new(call(), 1);
    }
    if !is_socket(on.fd) {
        return Counted::new(-winsock::WSAENOTSOCK, 1);
    }
    match socket(on.fd).set_nonblocking(true) {
        Ok(()) => Counted::new(call(), 2),
        Err(error) => Counted::new(outcome(Err(error)), 1),
    }
}

/// Returns the flags that Windows knows, without one that it takes for blocking sockets only.
fn known(flags: i32) -> i32 {
    flags & (os::MSG_OOB | os::MSG_PEEK | os::MSG_DONTROUTE)
}

/// # Safety
/// `len` bytes at `ptr` are valid for writes.
unsafe fn recv(fd: Target, ptr: *mut u8, len: u32, flags: i32) -> i32 {
    // SAFETY: this function's only item.
    let room = unsafe { memory(ptr, len as usize) };
    match outcome(socket(fd.fd).recv_with_flags(room, known(flags))) {
        // A datagram longer than the buffer, which was filled.
        error if error == -winsock::WSAEMSGSIZE => len as i32,
        // After a shutdown of the receiving side: the end of the stream, as elsewhere.
        error if error == -winsock::WSAESHUTDOWN => 0,
        result => result,
    }
}

/// # Safety
/// `len` bytes at `ptr` are initialised and valid for reads.
unsafe fn send(fd: Target, ptr: *const u8, len: u32, flags: i32) -> i32 {
    // SAFETY: this function's only item; the pointer is made non-null, as a slice requires.
    let bytes = unsafe { std::slice::from_raw_parts(non_null(ptr), len as usize) };
    sent(socket(fd.fd).send_with_flags(bytes, known(flags)))
}

/// Returns the outcome of a send. After a shutdown of the sending side it is a broken pipe, as
/// elsewhere.
fn sent(result: io::Result<usize>) -> i32 {
    match outcome(result) {
        error if error == -winsock::WSAESHUTDOWN => -(ERROR_BROKEN_PIPE as i32),
        result => result,
    }
}

/// Replaces the null pointer of an empty buffer.
fn non_null(ptr: *const u8) -> *const u8 {
    if ptr.is_null() { ptr::dangling() } else { ptr }
}

/// # Safety
/// `len` bytes at `ptr` are valid for writes during `'a`, and not accessed otherwise.
unsafe fn memory<'a>(ptr: *mut u8, len: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: this function's only item; the bytes need not be initialised.
    unsafe { std::slice::from_raw_parts_mut(non_null(ptr).cast_mut().cast(), len) }
}

/// # Safety
/// `iov` points to `count` entries, whose memory is initialised and valid for reads during `'a`.
unsafe fn buffers<'a>(iov: *const os::iovec, count: usize) -> ([IoSlice<'a>; BUFFERS], usize) {
    let count = count.min(BUFFERS);
    let mut slices: [IoSlice<'a>; BUFFERS] = std::array::from_fn(|_| IoSlice::new(&[]));
    for (index, slice) in slices[..count].iter_mut().enumerate() {
        // SAFETY: this function's only item; the index is below `count`.
        unsafe {
            let one = *iov.add(index);
            let bytes = std::slice::from_raw_parts(non_null(one.iov_base.cast()), one.iov_len);
            *slice = IoSlice::new(bytes);
        }
    }
    (slices, count)
}

/// # Safety
/// `iov` points to `count` entries, whose memory is valid for writes during `'a`, and not accessed
/// otherwise.
unsafe fn buffers_mut<'a>(
    iov: *const os::iovec,
    count: usize,
) -> ([MaybeUninitSlice<'a>; BUFFERS], usize) {
    let count = count.min(BUFFERS);
    let slices = std::array::from_fn(|index| {
        if index >= count {
            return MaybeUninitSlice::new(&mut []);
        }
        // SAFETY: this function's only item; the index is below `count`.
        unsafe {
            let one = *iov.add(index);
            MaybeUninitSlice::new(memory(one.iov_base.cast(), one.iov_len))
        }
    });
    (slices, count)
}

/// # Safety
/// `len` bytes at `ptr` are initialised and valid for reads.
unsafe fn address(ptr: *const u8, len: os::socklen_t) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let len = (len as usize).min(size_of::<SockAddrStorage>());
    // SAFETY: this function's only item; `len` is at most the size of the storage, which is plain
    // data.
    unsafe {
        ptr::copy_nonoverlapping(ptr, (&raw mut storage).cast(), len);
        SockAddr::new(storage, len as os::socklen_t)
    }
}

/// Writes an address to where a request wants it.
///
/// # Safety
/// As many bytes at `place` as `len` says are valid for writes.
unsafe fn write_address(address: &SockAddr, place: *mut u8, len: &mut os::socklen_t) {
    let count = (address.len() as usize).min(*len as usize);
    // SAFETY: this function's only item; `count` is at most that.
    unsafe { ptr::copy_nonoverlapping(address.as_ptr().cast(), place, count) };
    *len = address.len();
}

/// # Safety
/// `len` is valid for reads and writes, and as many bytes at `addr` as it says for writes.
unsafe fn accept(fd: Target, addr: *mut os::sockaddr, len: *mut os::socklen_t) -> i32 {
    let accepted = socket(fd.fd).accept().and_then(|(accepted, address)| {
        accepted.set_nonblocking(true)?;
        // SAFETY: this function's only item.
        unsafe { write_address(&address, addr.cast(), &mut *len) };
        Ok(accepted)
    });
    match accepted {
        Ok(accepted) => made(accepted.into()),
        Err(error) => outcome(Err(error)),
    }
}

/// # Safety
/// The buffers and the address of `msg` are valid for writes, and not accessed otherwise.
unsafe fn recvmsg(fd: Target, msg: &mut os::msghdr, flags: i32) -> i32 {
    // SAFETY: this function's only item, for the buffers.
    let (mut slices, count) = unsafe { buffers_mut(msg.msg_iov, msg.msg_iovlen) };
    let room: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    msg.msg_flags = 0;
    let socket = socket(fd.fd);
    let slices = &mut slices[..count];
    let received = socket.recv_from_vectored_with_flags(slices, known(flags));
    match received {
        Ok((mut len, how, address)) => {
            if RecvFlags::is_truncated(how) {
                // The buffers are full, whatever length the system reports.
                (msg.msg_flags, len) = (os::MSG_TRUNC, room);
            }
            // SAFETY: this function's only item, for the address.
            unsafe { write_address(&address, msg.msg_name.cast(), &mut msg.msg_namelen) };
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

/// # Safety
/// The buffers and the address of `msg` are initialised and valid for reads.
unsafe fn sendmsg(fd: Target, msg: &os::msghdr, flags: i32) -> i32 {
    // SAFETY: this function's only item, for the buffers.
    let (slices, count) = unsafe { buffers(msg.msg_iov, msg.msg_iovlen) };
    let (socket, slices) = (socket(fd.fd), &slices[..count]);
    if msg.msg_name.is_null() {
        return sent(socket.send_vectored_with_flags(slices, known(flags)));
    }
    // SAFETY: this function's only item, for the address.
    let address = unsafe { address(msg.msg_name.cast(), msg.msg_namelen) };
    sent(socket.send_to_vectored_with_flags(slices, &address, known(flags)))
}

/// Sends through a buffer. Bytes that the socket does not take are read again.
fn sendfile(out: Target, file: Target, offset: u64, len: u32) -> i32 {
    let mut buffer = [0u8; CHUNK];
    let room = CHUNK.min(len as usize);
    // SAFETY: `room` is at most the length of the buffer.
    match unsafe { read_at(file.fd, buffer.as_mut_ptr(), room as u32, offset) } {
        read @ 1.. => sent(socket(out.fd).send(&buffer[..read as usize])),
        result => result,
    }
}

/// `WSAPoll` without waiting: the events that have occurred, or `-EAGAIN`.
fn poll(fd: RawFd, events: u32) -> i32 {
    if !is_socket(fd) {
        // Other files are always ready.
        return events as i32 & i32::from(os::POLLIN | os::POLLOUT);
    }
    // Events that it does not know, such as POLLPRI, are an error to it.
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

/// Returns the outcome of a connect whose socket was reported ready: 0, a negated error number, or
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
