//! Threads for calls that may take their time: those on files, and whatever else would hold the loop up.
//!
//! The pool is bounded, starts threads only when they are needed, and allocates nothing per call
//! once its queues have grown. A job uses the operation's memory as the kernel's own workers would:
//! the contract keeps it in place until the operation is delivered. Only an open may wait for ever
//! (on a FIFO, or an automounter); its job owns its path, so that it can be given up on.
//!
//! # Why this file has `unsafe`
//! It hands pointers to other threads.

use crate::os::{IntoRawFd, OwnedFd};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::sys::{self, SigPipe};
use super::{Notify, Request, Token};

/// The kernel's own calls need little; the rest is room for a file system in user space.
const STACK: usize = 256 * 1024;

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Record(Token),
    /// A detached close.
    Nobody,
}

struct Job {
    owner: Owner,
    request: Request,
    /// What `request` needs, if the job may outlive its operation: it may be given up on.
    own: Option<Own>,
}

// SAFETY: the pointers in a job are used by one thread at a time: the contract of `Driver::submit`
// leaves the memory to the driver until delivery, and a job is with one thread until then.
unsafe impl Send for Job {}

/// What a job owns so as not to need its operation.
struct Own {
    _path: CString,
    _dir: Option<OwnedFd>,
}

/// The end of a job.
struct Done(Owner, i32);

// SAFETY: as for `Job`.
unsafe impl Send for Done {}

/// A job that a thread is working on.
struct Running {
    worker: usize,
    owner: Owner,
    may_be_abandoned: bool,
    abandoned: bool,
}

// SAFETY: as for `Job`; the token is only compared.
unsafe impl Send for Running {}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    done: Vec<Done>,
    running: Vec<Running>,
    idle: usize,
    /// Threads that are there, those whose job was given up on left out.
    threads: usize,
    workers: usize,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// There is something in `done`.
    news: AtomicBool,
    notify: Arc<dyn Notify>,
    sigpipe: SigPipe,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A driver's threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    most: usize,
    handles: Vec<(usize, JoinHandle<()>)>,
    /// What was taken from `State::done`; kept for its capacity.
    taken: Vec<Done>,
    jobs: u64,
}

impl Pool {
    pub(super) fn new(most: usize, notify: Arc<dyn Notify>, sigpipe: SigPipe) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            news: AtomicBool::new(false),
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

    /// How many jobs there have been.
    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Has `request` carried out.
    ///
    /// # Safety
    /// As for [`Driver::submit`](super::Driver::submit); the end is told by [`take`](Self::take).
    pub(super) unsafe fn submit(&mut self, op: Token, request: Request) {
        // SAFETY: the path is there, and ends with a NUL.
        let (request, own) = unsafe { own(request) };
        self.push(Job { owner: Owner::Record(op), request, own });
    }

    /// Closes `fd`, of which [`take`](Self::take) tells as well.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        let request = Request::Close { fd: fd.into_raw_fd() };
        self.push(Job { owner: Owner::Nobody, request, own: None });
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
            // The system is out of threads: those that are there do it, or else this one.
            Err(_) => {
                let mut state = self.shared.state();
                state.threads -= 1;
                if state.threads == 0 {
                    while let Some(job) = state.queue.pop_front() {
                        drop(state);
                        // SAFETY: as in `work`.
                        let result = unsafe { sys::block(job.request, self.shared.sigpipe) };
                        state = self.shared.state();
                        state.done.push(Done(job.owner, result));
                        self.shared.news.store(true, Ordering::Release);
                    }
                    drop(state);
                    self.shared.notify.notify();
                }
            }
        }
    }

    /// Asks for an early end. `true`: the job was taken back, or given up on, and `take` won't tell
    /// of it. Else it runs, and its end is near.
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
                running.owner = Owner::Nobody;
                *threads -= 1;
                // Somebody has to do what it can't do any more.
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

    /// Whether [`take`](Self::take) has something to tell.
    #[inline(always)]
    pub(super) fn has_news(&self) -> bool {
        self.shared.news.load(Ordering::Acquire)
    }

    /// Calls `ended` with each job that has ended: an operation and its result, or a close.
    pub(super) fn take(&mut self, mut ended: impl FnMut(Option<Token>, i32)) {
        self.shared.news.store(false, Ordering::Relaxed);
        std::mem::swap(&mut self.taken, &mut self.shared.state().done);
        for Done(owner, result) in self.taken.drain(..) {
            match owner {
                Owner::Record(op) => ended(Some(op), result),
                Owner::Nobody => ended(None, result),
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
            // A job that was given up on may take for ever.
            if !stuck.contains(&worker) {
                let _ = handle.join();
            }
        }
    }
}

/// What a thread of the pool does.
fn work(shared: &Shared, worker: usize) {
    sys::block_signals();
    let mut state = shared.state();
    loop {
        let Some(job) = state.queue.pop_front() else {
            if state.closing {
                return;
            }
            state.idle += 1;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        // SAFETY: the memory is in place until the job has been told of, or is the job's own.
        let result = unsafe { sys::block(job.request, shared.sigpipe) };
        state = shared.state();
        let index = state.running.iter().position(|running| running.worker == worker);
        let running = index.map(|index| state.running.swap_remove(index));
        if running.is_some_and(|running| running.abandoned) {
            drop(state);
            if result >= 0 {
                // SAFETY: the open has just made this fd, and nobody else knows of it.
                drop(unsafe { crate::os::owned_file(result) });
            }
            return;
        }
        state.done.push(Done(job.owner, result));
        if !shared.news.swap(true, Ordering::Release) {
            shared.notify.notify();
        }
    }
}

/// Gives a request that nobody can say ends by itself what it needs to outlive its operation. (If there is
/// no fd for that, it can't be given up on.)
///
/// # Safety
/// What the request points to is there.
unsafe fn own(request: Request) -> (Request, Option<Own>) {
    let Request::Open { dir, path, flags, mode } = request else { return (request, None) };
    let Ok(own_dir) = sys::duplicate_dir(dir) else { return (request, None) };
    // SAFETY: what the caller promises.
    let path = unsafe { std::ffi::CStr::from_ptr(path) }.to_owned();
    let dir = own_dir.as_ref().map_or(dir, crate::os::AsRawFd::as_raw_fd);
    let request = Request::Open { dir, path: path.as_ptr(), flags, mode };
    (request, Some(Own { _path: path, _dir: own_dir }))
}
