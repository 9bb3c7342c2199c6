//! The io_uring driver: one ring, entered by the one thread that owns it.
//!
//! A submission entry's `user_data` is the address of the operation's record, with a [`Tag`] in its
//! low bits (`user_data.rs`). One turn makes at most one `io_uring_enter(2)` (`queue.rs`), which
//! submits what is queued and waits, and then handles every completion (`complete.rs`). With
//! nothing to submit and nothing to wait for it makes no system call.

// # Why this file has `unsafe`
// It implements the contract: it shares the operations' memory with the kernel.

mod calls;
mod cancel;
mod close;
mod complete;
mod files;
mod msg_ring;
mod multishot;
mod opcodes;
mod open;
mod probe;
mod provided;
mod queue;
mod refused;
mod ring;
mod setup;
mod submit;
mod user_data;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{cqueue, opcode, squeue, types};

use super::call::{Args, Call, Fallback};
use super::inline_backoff::InlineBackoff;
use super::pool::Pool;
use super::record::record;
use super::sys::{self, SigPipeBlock};
use super::{
    Driver, INLINE_LEN, Notify, RecvQueue, Request, Settings, Setup, SetupError, Sink, Token, Wait,
};
use multishot::Receiving;
use refused::Refused;
use ring::Ring;
use setup::Features;
pub(super) use submit::on;
use user_data::{Tag, WAKE, address, prefetch};

/// The number of completions taken off the queue at once.
const BATCH: usize = 16;

/// The distance, in completions, at which records are prefetched into the cache: the kernel's own
/// work has mostly evicted them.
const AHEAD: usize = 2;

/// The io_uring driver. Fields are dropped in order: the ring before what the kernel may access.
pub(crate) struct Uring {
    ring: Ring,
    features: Features,
    sigpipe: SigPipeBlock,
    wake: Arc<msg_ring::RingNotifier>,
    /// Drivers notified by a message since the last turn, and their rings, which stay open until
    /// the kernel has taken the messages.
    notified: Vec<(Arc<dyn Notify>, Arc<OwnedFd>)>,
    /// Entries can be pushed without a further look: there is no backlog, and no opcode is refused.
    direct: bool,
    refused: Refused,
    /// The next turn must not wait: one of the lists below may have something to deliver.
    undelivered: bool,
    /// Entries that found the submission queue full, oldest first.
    backlog: VecDeque<squeue::Entry>,
    /// The number of operations submitted so far; wraps.
    started: u32,
    /// Cancels for the next turn to send.
    cancels: Vec<cancel::Cancel>,
    /// Completions taken early because the completion queue was full.
    early: Vec<cqueue::Entry>,
    /// Operations to try again after this batch of completions.
    retries: Vec<Token>,
    second_opens: Vec<open::SecondOpen>,
    /// The turn has the handle to the completion queue: nothing else may create one, nor enter the
    /// ring.
    reaping: bool,
    table: files::Table,
    closing: usize,
    /// Threads for operations that this kernel's rings lack; created when one is needed.
    pool: Option<Pool>,
    blocking_threads: usize,
    inline_reads: InlineBackoff,
    receiving: Receiving,
    /// The most memory for received buffers, in bytes.
    receive_memory: usize,
    /// Operations that were cancelled while they waited for a multishot receive.
    withdrawn: Vec<Token>,
    /// Operations that were cancelled and taken back from the pool.
    reclaimed: Vec<Token>,
    syscalls: u64,
}

impl Uring {
    /// Keeps a multishot poll on the event counter; each write to it makes one completion.
    fn arm_wake(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.wake.as_raw_fd()), libc::POLLIN as u32);
        // SAFETY: a poll names no memory.
        unsafe { self.push(poll.multi(true).build().user_data(WAKE)) };
    }

    /// Turns a request into an entry, or carries it out on this thread where that is cheaper.
    ///
    /// No function called here takes the request itself, only its parts: one that did would keep
    /// it in memory, where the compiler no longer sees which variant it is, for every operation.
    ///
    /// # Safety
    /// - `op` is in flight, or is being submitted: clauses 1 and 2 of the contract hold for it and
    ///   for everything that `request` points to;
    /// - `request` is what its record describes, and nothing carries it out at present.
    #[inline(always)]
    unsafe fn start(&mut self, op: Token, request: Request) -> Option<i32> {
        let entry = match request {
            // SAFETY: item 1.
            Request::Sendfile { out, file, offset, len, full, pages } => unsafe {
                return self.sendfile(op, out, file, offset, len, full, pages);
            },
            // SAFETY: item 1.
            Request::Splice { socket, pipe, len, into_pipe } => unsafe {
                return self.splice(op, socket, pipe, len, into_pipe);
            },
            // SAFETY: both items; the queue is among what the request points to.
            Request::RecvProvided { fd, queue } => unsafe {
                return self.recv_provided(op, fd, queue);
            },
            Request::Recv { fd, ptr, len, flags: 0 } if fd.eager => {
                // SAFETY: item 1, for `op` and the buffer.
                if let Some(received) = unsafe { self.recv_at_once(op, fd.fd, ptr, len) } {
                    return Some(received);
                }
                submit::entry(Request::Recv { fd, ptr, len, flags: 0 })
            }
            // Where the socket holds more to receive, the answer to what was received goes out
            // first: then all of it is handled while it is in the cache.
            Request::Send { fd, ptr, len, flags } if fd.eager => {
                // SAFETY: item 1, for the buffer.
                if let Some(sent) = unsafe { self.send_at_once(fd.fd, ptr, len, flags) } {
                    return Some(sent);
                }
                let flags = flags & self.features.send_flags;
                submit::entry(Request::Send { fd, ptr, len, flags })
            }
            Request::Send { fd, ptr, len, flags } => {
                let flags = flags & self.features.send_flags;
                submit::entry(Request::Send { fd, ptr, len, flags })
            }
            Request::Read { fd, ptr, len, offset } if fd.buffered && len > INLINE_LEN => {
                submit::entry(Request::Read { fd, ptr, len, offset }).flags(squeue::Flags::ASYNC)
            }
            Request::Read { fd, ptr, len, offset }
                if fd.buffered && self.inline_reads.should_try() =>
            {
                // SAFETY: item 1, for the buffer.
                if let Some(read) = unsafe { self.read_cached(fd.fd, ptr, len, offset) } {
                    return Some(read);
                }
                submit::entry(Request::Read { fd, ptr, len, offset })
            }
            Request::Write { fd, ptr, len, offset } if fd.buffered && len > INLINE_LEN => {
                submit::entry(Request::Write { fd, ptr, len, offset }).flags(squeue::Flags::ASYNC)
            }
            Request::Statx { dir, path, flags, out } if flags & libc::AT_EMPTY_PATH != 0 => {
                self.syscalls += 1;
                // SAFETY: item 1: the path and the place for the result are what it points to.
                if unsafe { sys::stat_at_once(dir, path, flags, out) } {
                    return Some(0);
                }
                submit::entry(Request::Statx { dir, path, flags, out })
            }
            Request::Open { flags, .. } if open::may_wait(flags) => {
                // SAFETY: both items.
                unsafe { self.push_open(op, request, false) };
                return None;
            }
            Request::Call { call, args, .. } => {
                // SAFETY: both items.
                return unsafe { self.start_call(op, call, args) };
            }
            // SAFETY: both items.
            Request::Close { fd, ending } => return unsafe { self.start_close(op, fd, ending) },
            Request::Poll { fd, events } if events & libc::POLLPRI as u32 != 0 => {
                // SAFETY: item 1.
                return unsafe { self.poll_priority(op, fd, events) };
            }
            request => submit::entry(request),
        };
        // SAFETY: the entry names what the request points to, which by clause 1 stays in place
        // until delivery; and that follows the entry's completion.
        unsafe { self.push(entry.user_data(address(op))) };
        None
    }

    /// Starts a plain system call: on the ring, or as the table says where this ring lacks it.
    ///
    /// # Safety
    /// As for [`start`](Self::start).
    #[inline(never)]
    unsafe fn start_call(
        &mut self,
        op: Token,
        call: &'static Call,
        args: NonNull<Args>,
    ) -> Option<i32> {
        // SAFETY: item 1: the arguments are what the request points to.
        let arguments = unsafe { args.as_ref() };
        match &call.ring {
            Some(ring) if self.features.opcodes.has(ring.opcode) => {
                // SAFETY: item 1, for the memory that the arguments point to.
                unsafe { self.push((ring.entry)(arguments).user_data(address(op))) };
                None
            }
            _ if call.fallback == Fallback::Inline => {
                self.syscalls += 1;
                // SAFETY: both items: the memory is in place, and nothing else uses it.
                Some(unsafe { call.perform(arguments) })
            }
            _ => {
                // SAFETY: both items.
                unsafe { self.hand_over(op, Request::Call { call, args, fd: -1, len: 0 }) };
                None
            }
        }
    }

    /// Has a thread of the pool carry a request out.
    ///
    /// # Safety
    /// As for [`start`](Self::start).
    #[cold]
    unsafe fn hand_over(&mut self, op: Token, request: Request) {
        // SAFETY: item 1 is that of `record`, and both are those of `Pool::submit`: the operation
        // is delivered only after the pool has returned it, or given it up.
        unsafe {
            record(op).set_tag(Tag::Thread as u8);
            self.pool().submit(op, request);
        }
    }

    #[cold]
    fn pool(&mut self) -> &mut Pool {
        self.pool.get_or_insert_with(|| {
            Pool::new(self.blocking_threads, self.wake.clone(), self.sigpipe.get())
        })
    }
}

// SAFETY: by the clauses of the contract:
// 3. `Record::notes` counts in `awaited` the completions that the kernel still owes: one per entry
//    that bears the record's address, or one for a place in `retries` or `refused`, which `end`
//    counts off. `complete` and `complete_tagged` return a token only when
//    that reaches 0, and nothing bears the address any more. The other ways to an end have no
//    entry: an operation on a thread (`take_done`: the pool returns it once, or `cancel` takes it
//    back), and one that waits for a multishot receive (`Armed::waiter`, out of which every
//    deliverer takes it). `submit` returns `Some` only on paths of `start` that push no entry;
//    `deliver_later` then puts the operation in `withdrawn`, once.
// 4. The kernel's last access to a request's memory comes before the completion without the flag
//    MORE, and no entry with such memory is multishot: those receive into `Provided` alone. A
//    thread of the pool is done with an operation before it reports it (`Pool`).
// 5. Completions carry the kernel's own result, calls made here return it as `sys` does.
//    Descriptors come from accept and open entries, whose results are stored unchanged.
// 6. `cancel` stores a result of its own only for an operation that no entry and no thread has any
//    more; otherwise it queues an entry, and the kernel's answer decides.
// 7. What is called: the kernel, this crate's pool and notifiers, `Record::request`, and the sink.
unsafe impl Driver for Uring {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        let (ring, features) = setup::build(settings)?;
        let no_wakeup = |error| setup::explain_wakeup(error, settings.entries);
        let ring_fd = features.messages.then_some(&ring);
        let wake = Arc::new(msg_ring::RingNotifier::new(ring_fd).map_err(no_wakeup)?);
        let mut ring = Ring::new(ring);
        ring.register_ring_fd();
        let mut driver = Uring {
            ring,
            features,
            sigpipe: SigPipeBlock::new(),
            wake,
            notified: Vec::new(),
            direct: true,
            refused: Refused::default(),
            undelivered: false,
            backlog: VecDeque::new(),
            started: 0,
            cancels: Vec::new(),
            early: Vec::new(),
            retries: Vec::new(),
            second_opens: Vec::new(),
            reaping: false,
            table: files::Table::default(),
            closing: 0,
            pool: None,
            blocking_threads: settings.blocking_threads,
            inline_reads: InlineBackoff::default(),
            receiving: Receiving::Untried,
            receive_memory: settings.receive_memory,
            withdrawn: Vec::new(),
            reclaimed: Vec::new(),
            syscalls: 0,
        };
        driver.arm_wake();
        driver.push_probes();
        driver.flush().map_err(no_wakeup)?;
        driver.check_probes()?;
        Ok(driver)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: item 2 of `Driver::submit`: the record is in place from here on.
        let record = unsafe { record(op) };
        // The place of the result is free until there is one; see `cancel_later`.
        record.result.set(self.started as i32);
        self.started = self.started.wrapping_add(1);
        // SAFETY: items 2 and 3 of `Driver::submit`; by item 1 nothing carries it out yet.
        unsafe { self.start(op, request) }
    }

    unsafe fn deliver_later(&mut self, op: Token, result: i32) -> bool {
        // SAFETY: item 2: the record is in place.
        let record = unsafe { record(op) };
        // Nothing that could be withdrawn: it waits at no queue.
        record.set_tag(Tag::RecvQueue as u8);
        record.result.set(result);
        self.withdrawn.push(op);
        self.undelivered = true;
        true
    }

    unsafe fn cancel(&mut self, op: Token) {
        // SAFETY: in flight, the only item of `Driver::cancel`.
        let record = unsafe { record(op) };
        let notes = record.notes.get();
        if notes.tag == Tag::Thread as u8 {
            if self.pool.as_mut().is_some_and(|pool| pool.cancel(op)) {
                record.result.set(-libc::ECANCELED);
                self.reclaimed.push(op);
                self.undelivered = true;
            }
        } else if notes.tag == Tag::RecvQueue as u8 {
            // SAFETY: in flight, and its tag says that it waits for a multishot receive.
            unsafe { self.withdraw(op) };
        } else if notes.cancels == 0 {
            // SAFETY: in flight, and with any other tag an entry of the operation is outstanding.
            unsafe { self.cancel_later(op) };
        }
    }

    unsafe fn leave_close(&mut self, op: Token) {
        // SAFETY: in flight, the only item of `Driver::leave_close`.
        if unsafe { record(op) }.notes.get().tag == Tag::Thread as u8 {
            // SAFETY: in flight. The kernel has no entry of it, which a cancel might interrupt.
            unsafe { self.cancel(op) };
        }
    }

    fn close(&mut self, fd: OwnedFd, socket: bool) {
        self.close_detached(fd, socket);
    }

    fn forget(&mut self, _fd: RawFd) {}

    fn stop_receive(&mut self, queue: &Rc<RecvQueue>) {
        self.stop_recv(queue);
    }

    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()> {
        self.update_receives();
        if !self.backlog.is_empty() {
            self.refill();
        }
        if !self.cancels.is_empty() {
            self.send_cancels();
        }
        let wait = if self.undelivered { self.limit_wait(wait) } else { wait };
        let something_ended = !self.has_no_completions();
        let (want, timeout) = match wait {
            _ if something_ended => (0, None),
            Wait::No => (0, None),
            Wait::For(limit) => (1, Some(limit)),
            Wait::Forever => (1, None),
        };
        let must_enter = want > 0 || {
            let sq = self.ring.sq();
            !sq.is_empty() || sq.taskrun() || sq.cq_overflow() || !self.features.taskrun_flag
        };
        let entered = if must_enter { self.enter(want, timeout) } else { Ok(()) };
        if !self.withdrawn.is_empty() {
            // Before completions lead to new entries, which may happen in every turn.
            self.deliver_withdrawn(sink);
        }
        // Completions that are there are delivered even if entering failed.
        self.reaping = true;
        if !self.early.is_empty() {
            self.deliver_early(sink);
        }
        // SAFETY: 1. `reaping` keeps `take_early`, the only other place that could be reached, from
        // creating a handle; 2. the handle is dropped within this call, and `self` is not.
        let mut cq = unsafe { self.ring.completions() };
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
                // SAFETY: just taken off this ring's queue.
                if let Some(op) = unsafe { self.complete(entry) } {
                    // SAFETY: `complete` has stored the result of the last completion.
                    unsafe { sink.deliver(op) };
                }
            }
        }
        drop(cq);
        self.reaping = false;
        if !self.retries.is_empty() {
            self.retry(sink);
        }
        if !self.refused.waiting.is_empty() {
            self.detour(sink);
        }
        if self.pool.is_some() {
            self.take_done(sink);
        }
        // The completion of a message that failed may have overflowed, and come in a later turn.
        if !self.notified.is_empty() && self.ring.sq().is_empty() && !self.ring.sq().cq_overflow() {
            self.notified.clear();
        }
        entered
    }

    fn has_ended(&mut self) -> bool {
        let waiting = {
            let sq = self.ring.sq();
            sq.taskrun() || sq.cq_overflow()
        };
        waiting
            || self.undelivered
            || !self.has_no_completions()
            || self.pool.as_ref().is_some_and(Pool::has_done)
    }

    fn closing(&self) -> usize {
        self.closing + self.receiving.leaving()
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.wake.clone()
    }

    fn notify_other(&mut self, other: &Arc<dyn Notify>) {
        if !self.message_ring(other) {
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
        let mut flags: Vec<_> = self.features.flags.iter().map(|flag| flag.name()).collect();
        flags.extend(self.receiving.is_by_kernel().then_some("PBUF_RING_INC"));
        Setup {
            flags,
            queue_sizes: (self.features.sq_entries, self.features.cq_entries),
            queue_fd: Some(self.ring.get().as_raw_fd()),
        }
    }
}

impl Uring {
    fn has_no_completions(&mut self) -> bool {
        debug_assert!(!self.reaping, "a second handle to the completion queue");
        // SAFETY: only the turn calls this, before it creates its own handle, and `has_ended`,
        // outside of turns.
        unsafe { self.ring.cq() }.is_empty()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.end_receives();
        self.wake.detach_ring();
        // The fields follow, the ring first: it is closed before the provided buffers, which are
        // part of `receiving`, are freed.
    }
}
