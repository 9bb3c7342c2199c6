//! The io_uring driver: one ring, entered by the one thread that owns it.
//!
//! A submission entry's `user_data` is the address of the operation's record plus a [`Mark`] in
//! its low bits (`mark.rs`). One turn makes at most one `io_uring_enter(2)` (`queue.rs`), which
//! submits what is queued and waits, and then settles every completion (`complete.rs`); with nothing to
//! submit and nothing to wait for it makes none.
//!
//! # Why this file has `unsafe`
//! It shares memory with the kernel, and owns a ring that its own field borrows.

mod cancel;
mod complete;
mod files;
mod msg_ring;
mod multishot;
mod opcodes;
mod probe;
mod provided;
mod queue;
mod refused;
mod setup;
mod submit;
mod user_data;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};

use super::call::{Args, Call, Fallback};
use super::inline_backoff::InlineBackoff;
use super::pool::Pool;
use super::sys::{self, SigPipe};
use super::{
    CURRENT_POSITION, Driver, Notes, Notify, Request, Settings, Setup, SetupError, Sink, Target,
    Token, Wait,
};
pub(super) use multishot::Armed;
use multishot::Receiving;
use refused::Refused;
use setup::Features;
pub(super) use submit::on;
use user_data::{Mark, WAKE, address, close, mark, prefetch};

/// Completions are taken in batches of this many, and the records of those that are `AHEAD` are
/// fetched into the cache meanwhile: the kernel's own work has mostly driven them out.
const BATCH: usize = 16;
const AHEAD: usize = 2;

/// The io_uring driver.
pub(crate) struct Uring {
    /// Made by `Box::leak`, freed in `drop`; `submitter` borrows from it.
    ring: NonNull<IoUring>,
    submitter: Submitter<'static>,
    features: Features,
    sigpipe: SigPipe,
    wake: Arc<msg_ring::Bell>,
    /// Those notified by a message since the last turn, and their rings: these stay open until the
    /// kernel has taken the messages.
    notified: Vec<(Arc<dyn Notify>, Arc<OwnedFd>)>,
    /// Entries can be pushed without a further look: there is no backlog, and no opcode is refused.
    direct: bool,
    refused: Refused,
    /// The next turn must not wait: one of the lists below may have something to deliver.
    unsettled: bool,
    /// Entries that found the submission queue full, oldest first.
    backlog: VecDeque<squeue::Entry>,
    /// How many operations were started; wraps.
    started: u32,
    /// Cancels that the next turn is to send.
    cancels: Vec<cancel::Cancel>,
    /// Completions taken early because the completion queue was full.
    early: Vec<cqueue::Entry>,
    /// Operations to try again after this batch of completions.
    again: Vec<Token>,
    /// The turn holds the completion queue: nothing else may look at it, nor enter the ring.
    reaping: bool,
    table: files::Table,
    closing: usize,
    /// For what this kernel's rings can't do; made when it is needed.
    pool: Option<Pool>,
    blocking_threads: usize,
    hits: InlineBackoff,
    receiving: Receiving,
    /// The most memory for chunks, in bytes.
    receive_memory: usize,
    /// Operations that waited for a chunk and were cancelled.
    withdrawn: Vec<Token>,
    /// Operations that were taken back from the pool.
    ended: Vec<Token>,
    syscalls: u64,
}

impl Uring {
    fn ring(&self) -> &IoUring {
        // SAFETY: allocated in `new`, freed only in `drop`.
        unsafe { self.ring.as_ref() }
    }

    #[inline(always)]
    fn sq(&self) -> squeue::SubmissionQueue<'_> {
        // SAFETY: each use ends before the next begins: no caller keeps one across a call.
        unsafe { self.ring.as_ref().submission_shared() }
    }

    /// Keeps a multishot poll on the event counter; each write to it makes one completion.
    fn arm_wake(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.wake.as_raw_fd()), libc::POLLIN as u32);
        self.push(poll.multi(true).build().user_data(WAKE));
    }

    /// Turns a request into an entry, or carries it out here where that is the better way.
    ///
    /// No call here takes the request itself, only its parts: one that did would keep it in memory,
    /// where the compiler no longer sees which one it is, on the way of every operation.
    #[inline(always)]
    fn start(&mut self, op: Token, request: Request) -> Option<i32> {
        let entry = match request {
            Request::Sendfile { out, file, offset, len, full } => {
                return self.sendfile(op, out, file, offset, len, full);
            }
            Request::Splice { socket, pipe, len, into_pipe } => {
                return self.splice(op, socket, pipe, len, into_pipe);
            }
            Request::RecvProvided { fd, feed } => {
                // SAFETY: the caller of `submit` answers for the feed.
                return unsafe { self.recv_provided(op, fd, feed) };
            }
            // Whoever wants all of it sent asks again for the rest.
            Request::Send { fd, ptr, len, flags } if !self.features.whole_sends => {
                submit::entry(Request::Send { fd, ptr, len, flags: flags & !libc::MSG_WAITALL })
            }
            Request::Recv { fd, ptr, len, flags: 0 } if fd.eager => {
                if let Some(received) = self.recv_at_once(op, fd.fd, ptr, len) {
                    return Some(received);
                }
                submit::entry(Request::Recv { fd, ptr, len, flags: 0 })
            }
            // Where more waits to be received, the answer to what has come goes first: then all of it is
            // handled while it is in the cache.
            Request::Send { fd, ptr, len, flags } if fd.eager => {
                if let Some(sent) = self.send_at_once(fd.fd, ptr, len, flags) {
                    return Some(sent);
                }
                submit::entry(Request::Send { fd, ptr, len, flags })
            }
            Request::Read { fd, ptr, len, offset } if fd.buffered && self.hits.are_likely() => {
                if let Some(read) = self.read_cached(fd.fd, ptr, len, offset) {
                    return Some(read);
                }
                submit::entry(Request::Read { fd, ptr, len, offset })
            }
            Request::Statx { dir, path, flags, out } if flags & libc::AT_EMPTY_PATH != 0 => {
                self.syscalls += 1;
                // SAFETY: the caller of `submit` keeps path and place.
                if unsafe { sys::stat_at_once(dir, path, flags, out) } {
                    return Some(0);
                }
                submit::entry(Request::Statx { dir, path, flags, out })
            }
            Request::Call { call, args, .. } => return self.start_call(op, call, args),
            request => submit::entry(request),
        };
        self.push(entry.user_data(address(op)));
        None
    }

    /// Receives what is there; `None`: nothing is, which the ring waits for.
    #[cold]
    fn recv_at_once(&mut self, op: Token, fd: RawFd, ptr: *mut u8, len: u32) -> Option<i32> {
        self.syscalls += 1;
        // SAFETY: the caller of `submit` keeps the memory.
        let received = unsafe { sys::recv_at_once(fd, ptr, len, 0) };
        if received == -libc::EAGAIN {
            return None;
        }
        // SAFETY: the caller of `submit` keeps the record in place.
        let notes = unsafe { &op.as_ref().notes };
        notes.set(Notes { more: received == len as i32, ..notes.get() });
        Some(received)
    }

    /// Sends what there is room for; `None`: there is none, which the ring waits for.
    #[cold]
    fn send_at_once(&mut self, fd: RawFd, ptr: *const u8, len: u32, flags: i32) -> Option<i32> {
        self.syscalls += 1;
        // SAFETY: the caller of `submit` keeps the memory.
        let sent = unsafe { sys::send_at_once(fd, ptr, len, flags) };
        (sent != -libc::EAGAIN).then_some(sent)
    }

    /// What is in memory already is read faster by a call. `None`: not all is, or it can't be told;
    /// the ring knows.
    fn read_cached(&mut self, fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> Option<i32> {
        // Such a read moves the file's position, and must not be made twice.
        if offset == CURRENT_POSITION {
            return None;
        }
        let mut done = 0;
        let result = loop {
            self.syscalls += 1;
            let (ptr, offset) = (ptr.wrapping_add(done as usize), offset + u64::from(done));
            // SAFETY: the caller of `submit` keeps the memory; this is what is left of it.
            match unsafe { sys::read_cached(fd, ptr, len - done, offset) } {
                // The end of the file.
                0 => break Some(done as i32),
                read @ 1.. => done += read as u32,
                _ => break None,
            }
            if done == len {
                break Some(done as i32);
            }
        };
        self.hits.note(result.is_some());
        result
    }

    /// Starts a plain system call: on the ring, or as the table says where this ring lacks it.
    #[inline(never)]
    fn start_call(&mut self, op: Token, call: &'static Call, args: NonNull<Args>) -> Option<i32> {
        // SAFETY: the caller of `submit` keeps the arguments in place.
        let arguments = unsafe { args.as_ref() };
        match &call.ring {
            Some(ring) if self.features.opcodes.has(ring.opcode) => {
                self.push((ring.entry)(arguments).user_data(address(op)));
                None
            }
            _ if call.fallback == Fallback::Inline => {
                self.syscalls += 1;
                // SAFETY: the caller of `submit` keeps all memory in place, and uses none of it.
                Some(unsafe { call.perform(arguments) })
            }
            _ => {
                // SAFETY: as for `submit`.
                unsafe { self.hand_over(op, Request::Call { call, args, fd: -1, len: 0 }) };
                None
            }
        }
    }

    /// Has a thread of the pool make the call.
    ///
    /// # Safety
    /// As for [`Driver::submit`].
    #[cold]
    unsafe fn hand_over(&mut self, op: Token, request: Request) {
        let pool = self.pool.get_or_insert_with(|| {
            Pool::new(self.blocking_threads, self.wake.clone(), self.sigpipe)
        });
        // SAFETY: the caller of `submit` keeps the record, and all memory, in place.
        unsafe {
            let record = op.as_ref();
            record.notes.set(Notes { mark: Mark::Thread as u8, ..record.notes.get() });
            pool.submit(op, request);
        }
    }

    /// What the ring has not is done by a call that does not wait, again whenever the socket is
    /// ready.
    #[inline(never)]
    fn sendfile(
        &mut self,
        op: Token,
        out: Target,
        file: Target,
        offset: u64,
        len: u32,
        full: bool,
    ) -> Option<i32> {
        // Else the last call has told that there is no room.
        if !full {
            let tried = sys::sendfile(self.sigpipe, out, file, offset, len);
            if let Some(result) = self.count_call(tried) {
                return Some(result);
            }
        }
        self.await_readiness(op, out, libc::POLLOUT)
    }

    /// The same for what the ring has only on threads of its own (`IORING_OP_SPLICE`).
    #[inline(never)]
    fn splice(
        &mut self,
        op: Token,
        socket: Target,
        pipe: Target,
        len: u32,
        into_pipe: bool,
    ) -> Option<i32> {
        let tried = sys::splice(self.sigpipe, socket, pipe, len, into_pipe);
        if let Some(result) = self.count_call(tried) {
            return Some(result);
        }
        self.await_readiness(op, socket, if into_pipe { libc::POLLIN } else { libc::POLLOUT })
    }

    /// A call's result, unless the file was not ready.
    fn count_call(&mut self, (result, syscalls): (i32, u64)) -> Option<i32> {
        self.syscalls += syscalls;
        (result != -libc::EAGAIN).then_some(result)
    }

    /// Tries the operation again when the file is ready.
    fn await_readiness(&mut self, op: Token, target: Target, events: i16) -> Option<i32> {
        // SAFETY: the caller of `submit` keeps the record in place.
        let record = unsafe { op.as_ref() };
        record.notes.set(Notes { mark: Mark::Ready as u8, ..record.notes.get() });
        self.push(submit::poll(target, events as u32).user_data(mark(op, Mark::Ready)));
        None
    }
}

impl Driver for Uring {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        let (ring, features) = setup::build(settings)?;
        let no_wakeup = |error| setup::explain_wakeup(error, settings.entries);
        let ring_fd = (features.messages).then_some(&ring);
        let wake = Arc::new(msg_ring::Bell::new(ring_fd).map_err(no_wakeup)?);
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the ring stays where it is until `drop`, which ends `submitter` first.
        let mut submitter = unsafe { ring.as_ref() }.submitter();
        // Saves the kernel an fd lookup per enter; merely slower where it is not offered.
        let _ = submitter.register_ring_fd();
        let mut driver = Uring {
            ring,
            submitter,
            features,
            sigpipe: SigPipe::new(),
            wake,
            notified: Vec::new(),
            direct: true,
            refused: Refused::default(),
            unsettled: false,
            backlog: VecDeque::new(),
            started: 0,
            cancels: Vec::new(),
            early: Vec::new(),
            again: Vec::new(),
            reaping: false,
            table: files::Table::default(),
            closing: 0,
            pool: None,
            blocking_threads: settings.blocking_threads,
            hits: InlineBackoff::default(),
            receiving: Receiving::Untried,
            receive_memory: settings.receive_memory,
            withdrawn: Vec::new(),
            ended: Vec::new(),
            syscalls: 0,
        };
        driver.arm_wake();
        driver.push_trials();
        driver.flush().map_err(no_wakeup)?;
        driver.check_trials()?;
        Ok(driver)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: the caller keeps the record in place.
        let record = unsafe { op.as_ref() };
        // Nobody looks for a result before there is one.
        record.result.set(self.started as i32);
        self.started = self.started.wrapping_add(1);
        self.start(op, request)
    }

    unsafe fn cancel(&mut self, op: Token) {
        // SAFETY: the caller promises that the operation is in flight.
        let record = unsafe { op.as_ref() };
        let notes = record.notes.get();
        if notes.mark == Mark::Thread as u8 {
            if self.pool.as_mut().is_some_and(|pool| pool.cancel(op)) {
                record.result.set(-libc::ECANCELED);
                self.refused.forget(op);
                self.ended.push(op);
                self.unsettled = true;
            }
        } else if notes.mark == Mark::RecvQueue as u8 {
            self.withdraw(op);
        } else if notes.cancels == 0 {
            self.cancel_later(op, record);
        }
    }

    fn close(&mut self, fd: OwnedFd, socket: bool) {
        if socket || !self.features.opcodes.has(opcode::Close::CODE) {
            // Of a socket, an entry and its completion cost more than the call.
            self.syscalls += 1;
            return drop(fd);
        }
        self.closing += 1;
        let fd = fd.into_raw_fd();
        self.push(opcode::Close::new(types::Fd(fd)).build().user_data(close(fd)));
    }

    fn forget(&mut self, _fd: RawFd) {}

    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()> {
        self.tend_streams();
        if !self.backlog.is_empty() {
            self.refill();
        }
        if !self.cancels.is_empty() {
            self.send_cancels();
        }
        let something_there = (self.unsettled && self.is_unsettled()) || !self.ring_is_quiet();
        let (want, timeout) = match wait {
            _ if something_there => (0, None),
            Wait::No => (0, None),
            Wait::For(limit) => (1, Some(limit)),
            Wait::Forever => (1, None),
        };
        let must_enter = want > 0 || {
            let sq = self.sq();
            !sq.is_empty() || sq.taskrun() || sq.cq_overflow() || !self.features.taskrun_flag
        };
        let entered = if must_enter { self.enter(want, timeout) } else { Ok(()) };
        if !self.withdrawn.is_empty() {
            // Before completions make for new entries, which may be in each turn.
            self.deliver_withdrawn(sink);
        }
        // Completions that are there are delivered even if entering failed.
        self.reaping = true;
        if !self.early.is_empty() {
            self.deliver_early(sink);
        }
        // SAFETY: the ring outlives this function, and `reaping` keeps everybody else from making
        // a second handle to its completion queue.
        let mut cq = unsafe { self.ring.as_ref().completion_shared() };
        let mut batch = [const { MaybeUninit::uninit() }; BATCH];
        loop {
            let entries = cq.fill(&mut batch);
            if entries.is_empty() {
                break;
            }
            for (index, entry) in entries.iter().enumerate() {
                if let Some(later) = entries.get(index + AHEAD) {
                    prefetch(later.user_data());
                }
                if let Some(token) = self.complete(entry) {
                    sink.deliver(token);
                }
            }
        }
        drop(cq);
        self.reaping = false;
        if !self.again.is_empty() {
            self.try_again(sink);
        }
        if !self.refused.waiting.is_empty() {
            self.detour(sink);
        }
        if self.pool.is_some() {
            self.take_done(sink);
        }
        if !self.notified.is_empty() && self.sq().is_empty() {
            self.notified.clear();
        }
        entered
    }

    fn closing(&self) -> usize {
        self.closing + self.receiving.leaving()
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.wake.clone()
    }

    fn notify_other(&mut self, other: &Arc<dyn Notify>) {
        if !self.write_news(other) {
            self.syscalls += 1;
            other.notify();
        }
    }

    fn register_files(&mut self, slots: u32) -> io::Result<()> {
        files::register(self, slots)
    }

    fn update_file(&mut self, slot: u32, fd: i32) -> io::Result<()> {
        files::update(self, slot, fd)
    }

    fn unregister_files(&mut self) -> io::Result<()> {
        files::unregister(self)
    }

    fn syscalls(&self) -> u64 {
        self.syscalls + self.pool.as_ref().map_or(0, Pool::jobs)
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn setup(&self) -> Setup {
        let mut flags = self.features.flags.clone();
        flags.extend(self.receiving.is_by_kernel().then_some("PBUF_RING_INC"));
        Setup {
            flags,
            queue_sizes: (self.features.sq_entries, self.features.cq_entries),
            queue_fd: Some(self.ring().as_raw_fd()),
        }
    }
}

impl Uring {
    /// Looks which lists have something, and remembers it if none has.
    #[cold]
    fn is_unsettled(&mut self) -> bool {
        self.unsettled = !self.ended.is_empty()
            || !self.withdrawn.is_empty()
            || !self.backlog.is_empty()
            || !self.early.is_empty()
            || !self.again.is_empty()
            || !self.refused.waiting.is_empty();
        self.unsettled
    }

    fn ring_is_quiet(&self) -> bool {
        // SAFETY: this handle is gone before any other is made.
        unsafe { self.ring.as_ref().completion_shared() }.is_empty()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.end_chunks();
        let _ = self.submitter.unregister_ring_fd();
        self.wake.silence();
        // SAFETY: made by `Box::leak` in `new`. `submitter` still names it, but has no destructor
        // and is not used again.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}
