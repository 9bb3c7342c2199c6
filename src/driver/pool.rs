//! A bounded pool of threads for calls that block: those on files, and others that would hold the
//! loop up.
//!
//! The pool starts threads only when they are needed, and allocates nothing per call once its
//! queues have grown. A job uses the operation's memory as the kernel's own workers would: the
//! contract keeps it in place until the operation is delivered. Only an open may block forever (on
//! a FIFO, or an automounter); its job owns its path, so that it can be abandoned.

// # Why this file has `unsafe`
// It hands pointers to other threads.

use crate::os::lock::{ignore_poison, lock};
use crate::os::{IntoRawFd, OwnedFd};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::sys::{self, SigPipe};
use super::{Notify, Request, Token};

/// The size of a thread's stack, in bytes. System calls need little of it.
const STACK: usize = 256 * 1024;

/// The owner of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Record(Token),
    /// No operation: a detached close, or an abandoned job.
    Detached,
}

struct Job {
    owner: Owner,
    request: Request,
    /// Copies of what `request` points to, for a job that may outlive its operation.
    own: Option<Own>,
}

// SAFETY: the pointers in a job are used by one thread at a time: clause 2 of the contract leaves
// the memory to the driver until delivery, and a job is with one thread until then.
unsafe impl Send for Job {}

/// Memory and files of a job that can be abandoned.
struct Own {
    _path: CString,
    _dir: Option<OwnedFd>,
}

/// A finished job: its owner and its result.
struct Done(Owner, i32);

// SAFETY: the token is only returned to the driver's thread, which alone uses it.
unsafe impl Send for Done {}

/// A job that a thread is working on.
struct Running {
    worker: usize,
    owner: Owner,
    may_be_abandoned: bool,
    abandoned: bool,
}

// SAFETY: the token is only compared, never dereferenced.
unsafe impl Send for Running {}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    done: Vec<Done>,
    running: Vec<Running>,
    idle: usize,
    /// The number of threads, without those whose job was abandoned.
    threads: usize,
    /// The number of threads started so far, which numbers them.
    workers: usize,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// `done` is not empty.
    has_done: AtomicBool,
    notify: Arc<dyn Notify>,
    sigpipe: SigPipe,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that panics runs under the lock.
        lock(&self.state)
    }
}

/// The pool of one driver.
pub(super) struct Pool {
    shared: Arc<Shared>,
    most: usize,
    handles: Vec<(usize, JoinHandle<()>)>,
    /// Jobs taken from `State::done`; kept for its capacity.
    taken: Vec<Done>,
    jobs: u64,
}

impl Pool {
    pub(super) fn new(most: usize, notify: Arc<dyn Notify>, sigpipe: SigPipe) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            has_done: AtomicBool::new(false),
            notify,
            sigpipe,
        };
        Pool {
            shared: Arc::new(shared),
            most: most.max(1),
            handles: Vec::new(),
            taken: Vec::new(),
            jobs: 0,
        }
    }

    /// Returns the number of jobs so far.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Has a thread carry `request` out; [`take`](Self::take) returns the operation afterwards.
    ///
    /// # Safety
    /// - Until `take` returns `op`, or [`cancel`](Self::cancel) gives it up, clauses 1 and 2 of the
    ///   contract hold for everything that `request` points to;
    /// - nothing else carries `op` out meanwhile.
    pub(super) unsafe fn submit(&mut self, op: Token, request: Request) {
        // SAFETY: item 1: a path is in place; requests have paths with a NUL.
        let (request, own) = unsafe { own(request) };
        self.push(Job { owner: Owner::Record(op), request, own });
    }

    /// Closes `fd`; [`take`](Self::take) reports the end.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        let request = Request::Close { fd: fd.into_raw_fd() };
        self.push(Job { owner: Owner::Detached, request, own: None });
    }

    fn push(&mut self, job: Job) {
        self.jobs += 1;
        let shared = self.shared.clone();
        let mut state = shared.state();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            drop(state);
            shared.work.notify_one();
        } else if state.threads < self.most {
            state.threads += 1;
            state.workers += 1;
            let worker = state.workers;
            drop(state);
            self.start(worker);
        }
    }

    #[cold]
    fn start(&mut self, worker: usize) {
        let shared = self.shared.clone();
        let started = std::thread::Builder::new()
            .name("corio-blocking".into())
            .stack_size(STACK)
            .spawn(move || work(&shared, worker));
        self.handles.retain(|(_, handle)| !handle.is_finished());
        match started {
            Ok(handle) => self.handles.push((worker, handle)),
            // The system is out of threads: existing ones do the work, or else this one.
            Err(_) => {
                let mut state = self.shared.state();
                state.threads -= 1;
                if state.threads == 0 {
                    while let Some(job) = state.queue.pop_front() {
                        drop(state);
                        // SAFETY: item 1 of `submit`, for jobs that are not in `done` yet; or the
                        // job's own memory.
                        let result = unsafe { sys::block(job.request, self.shared.sigpipe) };
                        state = self.shared.state();
                        state.done.push(Done(job.owner, result));
                        self.shared.has_done.store(true, Ordering::Release);
                    }
                    drop(state);
                    self.shared.notify.notify();
                }
            }
        }
    }

    /// Asks for an early end. Returns `true` if the job was removed, or abandoned, so that `take`
    /// will not return it. Otherwise it is running, and will end by itself.
    pub(super) fn cancel(&mut self, op: Token) -> bool {
        let shared = self.shared.clone();
        let mut state = shared.state();
        let owner = Owner::Record(op);
        if let Some(index) = state.queue.iter().position(|job| job.owner == owner) {
            state.queue.remove(index);
            return true;
        }
        let State { running, threads, .. } = &mut *state;
        match running.iter_mut().find(|running| running.owner == owner) {
            Some(running) if running.may_be_abandoned => {
                running.abandoned = true;
                running.owner = Owner::Detached;
                *threads -= 1;
                // Its thread does no more jobs, so another has to take the queue.
                if !state.queue.is_empty() {
                    state.threads += 1;
                    state.workers += 1;
                    let worker = state.workers;
                    drop(state);
                    self.start(worker);
                }
                true
            }
            _ => false,
        }
    }

    /// Returns `true` if [`take`](Self::take) would return something.
    #[inline(always)]
    pub(super) fn has_done(&self) -> bool {
        self.shared.has_done.load(Ordering::Acquire)
    }

    /// Calls `ended` for each finished job: an operation and its result, or a close.
    pub(super) fn take(&mut self, mut ended: impl FnMut(Option<Token>, i32)) {
        self.shared.has_done.store(false, Ordering::Relaxed);
        std::mem::swap(&mut self.taken, &mut self.shared.state().done);
        for Done(owner, result) in self.taken.drain(..) {
            match owner {
                Owner::Record(op) => ended(Some(op), result),
                Owner::Detached => ended(None, result),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        let stuck: Vec<_> = state.running.iter().map(|running| running.worker).collect();
        drop(state);
        self.shared.work.notify_all();
        for (worker, handle) in self.handles.drain(..) {
            // A thread with a job in progress may block forever.
            if !stuck.contains(&worker) {
                let _ = handle.join();
            }
        }
    }
}

/// Runs a thread of the pool.
fn work(shared: &Shared, worker: usize) {
    sys::block_signals();
    let mut state = shared.state();
    loop {
        let Some(job) = state.queue.pop_front() else {
            if state.closing {
                return;
            }
            state.idle += 1;
            state = ignore_poison(shared.work.wait(state));
            state.idle -= 1;
            continue;
        };
        let may_be_abandoned = job.own.is_some();
        state.running.push(Running {
            worker,
            owner: job.owner,
            may_be_abandoned,
            abandoned: false,
        });
        drop(state);
        // SAFETY: item 1 of `submit`: the job is in `done` only after this call. A job that
        // `cancel` gave up meanwhile has memory of its own.
        let result = unsafe { sys::block(job.request, shared.sigpipe) };
        state = shared.state();
        let index = state.running.iter().position(|running| running.worker == worker);
        let running = index.map(|index| state.running.swap_remove(index));
        if running.is_some_and(|running| running.abandoned) {
            drop(state);
            if result >= 0 {
                // SAFETY: the open has just returned this fd, and its result goes nowhere else.
                drop(unsafe { crate::os::owned_file(result) });
            }
            return;
        }
        state.done.push(Done(job.owner, result));
        if !shared.has_done.swap(true, Ordering::Release) {
            shared.notify.notify();
        }
    }
}

/// Copies what a request points to, if it may block forever, so that its job can be abandoned. (If
/// no fd is left for the directory, the job cannot be abandoned.)
///
/// # Safety
/// A path of the request ends with a NUL and is valid for reads.
unsafe fn own(request: Request) -> (Request, Option<Own>) {
    let Request::Open { dir, path, flags, mode } = request else { return (request, None) };
    let Ok(own_dir) = sys::duplicate_dir(dir) else { return (request, None) };
    // SAFETY: this function's only item.
    let path = unsafe { std::ffi::CStr::from_ptr(path) }.to_owned();
    let dir = own_dir.as_ref().map_or(dir, crate::os::AsRawFd::as_raw_fd);
    let request = Request::Open { dir, path: path.as_ptr(), flags, mode };
    (request, Some(Own { _path: path, _dir: own_dir }))
}
