//! Calls that the ring's own thread makes: where they are cheaper than an entry, or the ring has no
//! such operation.

// # Why this file has `unsafe`
// It passes the memory of requests to system calls, and accesses the records of operations.

use std::os::fd::RawFd;

use super::user_data::{Tag, tagged};
use super::{Uring, submit};
use crate::driver::record::record;
use crate::driver::sys::{self, Counted};
use crate::driver::{CURRENT_POSITION, Notes, Pages, Request, Target, Token};

impl Uring {
    /// Receives what the socket holds; `None` if that is nothing, so that the ring has to wait.
    ///
    /// # Safety
    /// - `op` is in flight or being submitted;
    /// - `len` bytes at `ptr` are valid for writes.
    #[cold]
    pub(super) unsafe fn recv_at_once(
        &mut self,
        op: Token,
        fd: RawFd,
        ptr: *mut u8,
        len: u32,
    ) -> Option<i32> {
        self.syscalls += 1;
        // SAFETY: item 2.
        let received = unsafe { sys::recv_at_once(fd, ptr, len, 0) };
        if received == -libc::EAGAIN {
            return None;
        }
        // SAFETY: item 1.
        let notes = unsafe { &record(op).notes };
        notes.set(Notes { more: received == len as i32, ..notes.get() });
        Some(received)
    }

    /// Sends what the socket has room for; `None` if that is nothing, so that the ring has to wait.
    ///
    /// # Safety
    /// `len` bytes at `ptr` are initialised and valid for reads.
    #[cold]
    pub(super) unsafe fn send_at_once(
        &mut self,
        fd: RawFd,
        ptr: *const u8,
        len: u32,
        flags: i32,
    ) -> Option<i32> {
        self.syscalls += 1;
        // SAFETY: this function's only item.
        let sent = unsafe { sys::send_at_once(fd, ptr, len, flags) };
        (sent != -libc::EAGAIN).then_some(sent)
    }

    /// Reads what is in the page cache by a system call, which is faster than an entry. `None`: not
    /// all of it is, or the host cannot say; the ring reads then.
    ///
    /// # Safety
    /// `len` bytes at `ptr` are valid for writes.
    pub(super) unsafe fn read_cached(
        &mut self,
        fd: RawFd,
        ptr: *mut u8,
        len: u32,
        offset: u64,
    ) -> Option<i32> {
        // Such a read moves the file's position, and must not be made twice.
        if offset == CURRENT_POSITION {
            return None;
        }
        // SAFETY: this function's only item.
        let cached = unsafe { sys::read_all_cached(fd, ptr, len, offset) };
        self.syscalls += cached.syscalls;
        let result = cached.stopped.is_none().then_some(cached.read as i32);
        self.inline_reads.record(result.is_some());
        result
    }

    /// Carries out what rings lack by a call that does not block, repeated whenever the socket is
    /// ready.
    ///
    /// # Safety
    /// `op` is in flight or being submitted.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // See `start`.
    pub(super) unsafe fn sendfile(
        &mut self,
        op: Token,
        out: Target,
        file: Target,
        offset: u64,
        len: u32,
        full: bool,
        pages: Pages,
    ) -> Option<i32> {
        if pages == Pages::Missing {
            let request = Request::Sendfile { out, file, offset, len, full, pages };
            // SAFETY: this function's only item; the request names no memory.
            unsafe { self.hand_over(op, request) };
            return None;
        }
        // Otherwise the last call has found no room.
        if !full {
            let tried = sys::sendfile(self.sigpipe.get(), out, file, offset, len, pages);
            if let Some(result) = self.count_call(tried) {
                return Some(result);
            }
        }
        // SAFETY: this function's only item.
        unsafe { self.await_readiness(op, out, libc::POLLOUT) }
    }

    /// Does the same for what rings have only on threads of the kernel's own (`IORING_OP_SPLICE`).
    ///
    /// # Safety
    /// `op` is in flight or being submitted.
    #[inline(never)]
    pub(super) unsafe fn splice(
        &mut self,
        op: Token,
        socket: Target,
        pipe: Target,
        len: u32,
        into_pipe: bool,
    ) -> Option<i32> {
        let tried = sys::splice(self.sigpipe.get(), socket, pipe, len, into_pipe);
        if let Some(result) = self.count_call(tried) {
            return Some(result);
        }
        let events = if into_pipe { libc::POLLIN } else { libc::POLLOUT };
        // SAFETY: this function's only item.
        unsafe { self.await_readiness(op, socket, events) }
    }

    /// Polls for urgent data by calls, repeated at each event. An entry is never woken by the event
    /// `POLLPRI` alone, and the result of one that waits for other events too has it although there
    /// is no urgent data: it is what the wake-up might have been for, not what `poll(2)` reports.
    ///
    /// # Safety
    /// `op` is in flight or being submitted.
    #[cold]
    pub(super) unsafe fn poll_priority(
        &mut self,
        op: Token,
        fd: Target,
        events: u32,
    ) -> Option<i32> {
        let tried = Counted::new(sys::poll(fd.fd, events), 1);
        if let Some(result) = self.count_call(tried) {
            return Some(result);
        }
        // SAFETY: this function's only item.
        unsafe { self.await_readiness(op, fd, events as i16) }
    }

    /// Counts a call; returns its result, unless the file was not ready.
    fn count_call(&mut self, call: Counted<i32>) -> Option<i32> {
        self.syscalls += call.syscalls;
        (call.result != -libc::EAGAIN).then_some(call.result)
    }

    /// Has the operation tried again when the file is ready.
    ///
    /// # Safety
    /// `op` is in flight or being submitted.
    pub(super) unsafe fn await_readiness(
        &mut self,
        op: Token,
        target: Target,
        events: i16,
    ) -> Option<i32> {
        // SAFETY: this function's only item.
        unsafe { record(op) }.set_tag(Tag::Ready as u8);
        let poll = submit::poll(target, events as u32).user_data(tagged(op, Tag::Ready));
        // SAFETY: a poll names no memory.
        unsafe { self.push(poll) };
        None
    }
}
