//! The io_uring driver: one ring, entered by the one thread that owns it.
//!
//! A submission entry's `user_data` is the address of the operation's record plus a [`Mark`] in
//! its low bits. One turn makes at most one `io_uring_enter(2)`, which submits what is queued and
//! waits; with nothing to submit and nothing to wait for it makes none.
//!
//! # Why this file has `unsafe`
//! It shares memory with the kernel and turns addresses that come back from it into records.

mod files;
mod lower;
mod notify;
mod setup;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, squeue, types};

use super::sys::{self, SigPipe};
use super::{
    Driver, Notes, Notify, Operation, Request, Settings, Setup, SetupError, Sink, Token, Wait,
};
use notify::EventFd;
use setup::Features;

/// What the low three bits of a completion's `user_data` say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mark {
    /// The operation itself has ended.
    Whole = 0,
    /// A cancel of the operation has been carried out.
    Cancel = 1,
    /// What the operation acts on is ready: try the operation again.
    Ready = 2,
}

const MARKS: u64 = 0b111;

/// `user_data` of the driver's own entries: the mark 7 is used by no operation.
const WAKE: u64 = 7;
const CLOSE: u64 = 8 | 7;

/// A cancel can miss an operation that is just moving between two of the kernel's lists; it is
/// then sent again, but not for ever.
const CANCEL_TRIES: u8 = 16;

/// The kernel adds a wait to the time it is now, in signed nanoseconds, and does not look whether
/// that overflows. A turn may return early.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Completions are taken in batches of this many, and the records of those that are `AHEAD` are
/// fetched into the cache meanwhile: the kernel's own work has mostly driven them out.
const BATCH: usize = 16;
const AHEAD: usize = 2;

/// How long an operation that nothing tells when to go on waits before it tries again.
static PAUSE: Timespec = Timespec::new().nsec(1_000_000);

/// The io_uring driver.
pub(crate) struct Uring {
    /// Made by `Box::leak`, freed in `drop`; `submitter` borrows from it.
    ring: NonNull<IoUring>,
    submitter: Submitter<'static>,
    features: Features,
    sigpipe: SigPipe,
    wake: Arc<EventFd>,
    /// Entries that found the submission queue full, oldest first.
    backlog: VecDeque<squeue::Entry>,
    /// Completions taken early because the completion queue was full.
    early: Vec<cqueue::Entry>,
    /// Operations to try again after this batch of completions.
    again: Vec<Token>,
    /// The turn holds the completion queue: nothing else may look at it, nor enter the ring.
    reaping: bool,
    closing: usize,
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

    /// Queues an entry; never fails.
    #[inline(always)]
    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: `Driver::submit`'s caller answers for the memory the entry names; the
            // driver's own entries name none.
            if unsafe { self.sq().push(&entry) }.is_ok() {
                return;
            }
        }
        self.push_slow(entry);
    }

    #[cold]
    fn push_slow(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
        if self.reaping {
            return;
        }
        // An error here is met again, and reported, by the turn.
        let _ = self.enter(0, None);
        self.refill();
    }

    /// Moves entries from the backlog to the submission queue, in order.
    fn refill(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.sq().push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Hands everything queued to the kernel without waiting.
    fn flush(&mut self) -> io::Result<()> {
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            self.refill();
            if self.sq().is_empty() {
                return Ok(());
            }
            self.enter(0, None)?;
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// `io_uring_enter(2)`: submits, runs the kernel's deferred work, waits for `want` completions.
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let len = self.sq().len() as u32;
        let mut flags = EnterFlags::GETEVENTS;
        if want > 0 && self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        self.syscalls += 1;
        let entered = match timeout {
            Some(timeout) => {
                let timespec = Timespec::from(timeout.min(LONGEST_WAIT));
                let args = SubmitArgs::new().timespec(&timespec);
                flags |= EnterFlags::EXT_ARG;
                // SAFETY: `args` is what EXT_ARG asks for, and outlives the call.
                unsafe { self.submitter.enter(len, want as u32, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed.
            None => unsafe {
                self.submitter.enter::<libc::sigset_t>(len, want as u32, flags.bits(), None)
            },
        };
        let Err(error) = entered else { return Ok(()) };
        match error.raw_os_error() {
            // The time is up, or a signal came: the caller looks at the world again.
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            // The kernel holds completions that found no room: make some, and try again later.
            Some(libc::EBUSY) => {
                self.take_early();
                Ok(())
            }
            // The kernel is out of memory for requests. The entries are still queued.
            Some(libc::EAGAIN) => {
                std::thread::yield_now();
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn take_early(&mut self) {
        // SAFETY: no other completion queue handle is alive: `turn` takes its own afterwards.
        let taken = unsafe { self.ring.as_ref().completion_shared() };
        self.early.extend(taken);
    }

    /// Keeps a multishot poll on the event counter; each write to it makes one completion.
    fn arm_wake(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.wake.as_raw_fd()), libc::POLLIN as u32);
        self.push(poll.multi(true).build().user_data(WAKE));
    }

    /// Sorts out one completion. `true`: its operation has ended and is to be delivered.
    #[inline(always)]
    fn settle(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        if data & MARKS != Mark::Whole as u64 {
            return self.settle_marked(entry);
        }
        // SAFETY: the address came from `submit`, and by the contract the record stays in place
        // until its token is delivered, which has not happened: `awaited` was not zero.
        let (token, op) = unsafe { record(data) };
        let notes = op.notes.get();
        debug_assert!(notes.awaited > 0, "a completion for an operation that has ended");
        let mut result = entry.result();
        if result < 0 {
            result = self.failure(token, op, result)?;
        }
        op.result.set(result);
        if notes.awaited == 1 {
            // Nobody looks at the notes any more.
            return Some(token);
        }
        op.notes.set(Notes { awaited: notes.awaited - 1, ..notes });
        None
    }

    /// What an attempt's failure means: `None` if the operation goes on.
    #[cold]
    fn failure(&mut self, token: Token, op: &Operation, result: i32) -> Option<i32> {
        match -result {
            libc::EAGAIN => self.would_block(token, op),
            // A cancel interrupts what is running on a kernel worker.
            libc::EINTR if op.notes.get().cancels > 0 => Some(-libc::ECANCELED),
            _ => Some(result),
        }
    }

    /// An operation on an fd in non-blocking mode waits for readiness here (`None`), as it would
    /// have in the kernel had the fd been in blocking mode; unless it was cancelled.
    fn would_block(&mut self, token: Token, op: &Operation) -> Option<i32> {
        // SAFETY: the kernel has ended its attempt, so nothing uses the operation's memory.
        let request = unsafe { (op.request)(token) };
        let Some((target, events)) = request.readiness() else { return Some(-libc::EAGAIN) };
        let notes = op.notes.get();
        if notes.cancels > 0 {
            return Some(-libc::ECANCELED);
        }
        op.notes.set(Notes { mark: Mark::Ready as u8, ..notes });
        // SAFETY: as above.
        let wait = match unsafe { lower::has_no_readiness(request) } {
            true => opcode::Timeout::new(&PAUSE).build(),
            false => lower::poll(target, events),
        };
        self.push(wait.user_data(mark(token, Mark::Ready)));
        None
    }

    #[cold]
    fn settle_marked(&mut self, entry: &cqueue::Entry) -> Option<Token> {
        let data = entry.user_data();
        match data {
            WAKE => {
                if !cqueue::more(entry.flags()) {
                    self.arm_wake();
                }
                return None;
            }
            CLOSE => {
                self.closing -= 1;
                return None;
            }
            _ => {}
        }
        // SAFETY: as in `settle`: an operation with a cancel under way is not delivered before
        // the cancel has ended too.
        let (token, op) = unsafe { record(data) };
        let mut notes = op.notes.get();
        notes.awaited -= 1;
        op.notes.set(notes);
        if data & MARKS == Mark::Ready as u64 {
            if entry.result() < 0 && entry.result() != -libc::ETIME {
                op.result.set(entry.result());
            } else if notes.cancels > 0 {
                // Ready, but somebody wants it cancelled: that is the answer.
                op.result.set(-libc::ECANCELED);
            } else {
                self.again.push(token);
                return None;
            }
            return (notes.awaited == 0).then_some(token);
        }
        if notes.awaited > 0 {
            // ENOENT while the operation has not ended: it was between two lists. EALREADY: it is
            // running on a kernel worker and will end by itself. EINVAL can't be mended.
            if entry.result() == -libc::ENOENT && notes.cancels < CANCEL_TRIES {
                self.push_cancel(token, op);
            }
            return None;
        }
        Some(token)
    }

    fn push_cancel(&mut self, token: Token, op: &Operation) {
        let mut notes = op.notes.get();
        notes.awaited += 1;
        notes.cancels += 1;
        op.notes.set(notes);
        let target = address(token) | u64::from(notes.mark);
        self.push(opcode::AsyncCancel::new(target).build().user_data(mark(token, Mark::Cancel)));
    }

    /// Turns a request into an entry, or carries it out here where that is the better way.
    #[inline(always)]
    fn start(&mut self, op: Token, request: Request) -> Option<i32> {
        let entry = match request {
            Request::Sendfile { .. } => return self.start_sendfile(op, request),
            Request::Ftruncate { fd, len } if !self.features.ftruncate => {
                return Some(sys::ftruncate(fd, len));
            }
            request => lower::lower(request),
        };
        self.push(entry.user_data(address(op)));
        None
    }

    fn start_sendfile(&mut self, op: Token, request: Request) -> Option<i32> {
        let Request::Sendfile { out, file, offset, len, full } = request else {
            unreachable!("`start` looks at the request");
        };
        if !full {
            let (result, syscalls) = sys::sendfile(self.sigpipe, out, file, offset, len);
            self.syscalls += syscalls;
            if result != -libc::EAGAIN {
                return Some(result);
            }
        }
        // SAFETY: the caller of `submit` keeps the record in place.
        let record = unsafe { op.as_ref() };
        record.notes.set(Notes { mark: Mark::Ready as u8, ..record.notes.get() });
        self.push(lower::poll(out, libc::POLLOUT as u32).user_data(mark(op, Mark::Ready)));
        None
    }

    /// Delivers what was taken off a full completion queue before this turn.
    #[cold]
    fn deliver_early(&mut self, sink: &mut impl Sink) {
        for entry in std::mem::take(&mut self.early) {
            if let Some(token) = self.settle(&entry) {
                sink.deliver(token);
            }
        }
    }

    /// Tries operations again whose target has become ready; delivers those that end at once.
    #[cold]
    fn try_again(&mut self, sink: &mut impl Sink) {
        while let Some(token) = self.again.pop() {
            // SAFETY: the operation is not delivered yet, and nothing uses its memory: its last
            // completion has just been settled.
            let op = unsafe { token.as_ref() };
            op.notes.set(Notes { cancels: op.notes.get().cancels, ..Notes::NEW });
            // SAFETY: as above.
            let mut request = unsafe { (op.request)(token) };
            if let Request::Sendfile { full, .. } = &mut request {
                // There is room now.
                *full = false;
            }
            if let Some(result) = self.start(token, request) {
                op.result.set(result);
                op.notes.set(Notes { awaited: 0, ..op.notes.get() });
                sink.deliver(token);
            }
        }
    }
}

impl Driver for Uring {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        let (ring, features) = setup::build(settings)?;
        let no_wakeup = |error| setup::explain_wakeup(error, settings.entries);
        let wake = Arc::new(EventFd::new().map_err(no_wakeup)?);
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
            backlog: VecDeque::new(),
            early: Vec::new(),
            again: Vec::new(),
            reaping: false,
            closing: 0,
            syscalls: 0,
        };
        driver.arm_wake();
        driver.flush().map_err(no_wakeup)?;
        Ok(driver)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        self.start(op, request)
    }

    unsafe fn cancel(&mut self, op: Token) {
        // SAFETY: the caller promises that the operation is in flight.
        let record = unsafe { op.as_ref() };
        if record.notes.get().cancels == 0 {
            self.push_cancel(op, record);
        }
    }

    fn close(&mut self, fd: OwnedFd) {
        self.closing += 1;
        let fd = types::Fd(fd.into_raw_fd());
        self.push(opcode::Close::new(fd).build().user_data(CLOSE));
    }

    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.refill();
        }
        let something_there =
            !self.backlog.is_empty() || !self.early.is_empty() || !self.ring_is_quiet();
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
                if let Some(token) = self.settle(entry) {
                    sink.deliver(token);
                }
            }
        }
        drop(cq);
        self.reaping = false;
        if !self.again.is_empty() {
            self.try_again(sink);
        }
        entered
    }

    fn closing(&self) -> usize {
        self.closing
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.wake.clone()
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
        self.syscalls
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn setup(&self) -> Setup {
        Setup {
            flags: self.features.flags.clone(),
            queue_sizes: (self.features.sq_entries, self.features.cq_entries),
            queue_fd: Some(self.ring().as_raw_fd()),
        }
    }
}

impl Uring {
    fn ring_is_quiet(&self) -> bool {
        // SAFETY: this handle is gone before any other is made.
        unsafe { self.ring.as_ref().completion_shared() }.is_empty()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let _ = self.submitter.unregister_ring_fd();
        // SAFETY: made by `Box::leak` in `new`. `submitter` still names it, but has no destructor
        // and is not used again.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}

#[inline(always)]
fn address(token: Token) -> u64 {
    token.as_ptr().expose_provenance() as u64
}

#[inline(always)]
fn mark(token: Token, mark: Mark) -> u64 {
    address(token) | mark as u64
}

/// Fetches the record behind a completion's `user_data` into the cache, on processors where that can
/// be said. Any value will do: a wrong address is no error.
#[inline(always)]
fn prefetch(data: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let record = std::ptr::without_provenance::<i8>((data & !MARKS) as usize);
        // SAFETY: a prefetch reads nothing that a program could notice, and never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(record);
            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// The record behind a completion's `user_data`.
///
/// # Safety
/// The address was made by [`address`], and the record has not been given up since.
#[inline(always)]
unsafe fn record<'a>(data: u64) -> (Token, &'a Operation) {
    let ptr = std::ptr::with_exposed_provenance_mut::<Operation>((data & !MARKS) as usize);
    // SAFETY: the caller promises that the record is there.
    unsafe { (NonNull::new_unchecked(ptr), &*ptr) }
}
