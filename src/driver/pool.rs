//! A bounded pool of threads for calls that block: those on files, and others that would hold the
//! loop up.
//!
//! The pool starts threads only when they are needed, ends them when they are not, and allocates
//! nothing per call once its queues have grown. A job uses the operation's memory as the kernel's
//! own workers would: the contract keeps it in place until the operation is delivered.
//!
//! Two calls may wait for what is no disk, for ever: an open (of a FIFO or a device), and a close
//! (of a socket that lingers, or a terminal). Such a job owns what it uses, so that it can be
//! abandoned. Its thread does not count against the pool's limit while it waits, so that other jobs
//! are not held up. If the system has no thread, the queued jobs are carried out on the driver's
//! own thread, but none that may wait: an open fails with `EAGAIN`, a close does not linger.

// # Why this file has `unsafe`
// It hands pointers to other threads.

use crate::os::idle::{self, IdleThreads};
use crate::os::lock::lock;
use crate::os::{self, IntoRawFd, OwnedFd};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::seams::options;
use super::sys::{self, SigPipe};
use super::{Ending, Notify, Request, Token};

/// The size of a thread's stack, in bytes. System calls need little of it.
const STACK: usize = 256 * 1024;

/// After how long without a job a thread ends, as in [`blocking`](crate::blocking).
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The most threads whose jobs wait for something other than a disk; they are not counted among
/// those of the pool.
const MOST_WAITING: usize = 256;

/// The owner of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Record(Token),
    /// No operation: a detached close.
    Detached,
    /// No operation, and the end is not reported: an abandoned job, or a close that may take long.
    Unwatched,
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

impl Job {
    /// Returns `true` for a close that waits for a peer or a terminal.
    fn is_slow_close(&self) -> bool {
        matches!(self.request, Request::Close { ending: Ending::Waits, .. })
    }

    /// Returns `true` if the operation can end before the job does.
    fn may_be_abandoned(&self) -> bool {
        self.own.is_some() || self.is_slow_close()
    }

    /// Returns `true` if the job may wait for ever: a slow close, or an open of a FIFO or a device.
    ///
    /// # Safety
    /// As for [`sys::block`].
    unsafe fn waits(&self) -> bool {
        // SAFETY: this function's only item.
        self.is_slow_close() || unsafe { sys::open_waits(&self.request) }
    }

    /// Carries the job out.
    ///
    /// # Safety
    /// As for [`sys::block`].
    unsafe fn run(&self, sigpipe: SigPipe) -> i32 {
        // SAFETY: this function's only item.
        unsafe { sys::block(self.request, sigpipe) }
    }

    /// Ends a job that [waits](Self::waits), for which there is no thread: an open fails, and a
    /// close does not linger.
    ///
    /// # Safety
    /// As for [`sys::block`].
    unsafe fn run_without_thread(&self, sigpipe: SigPipe) -> i32 {
        match self.request {
            Request::Close { fd, .. } => {
                // SAFETY: the fd is open, as the job closes it below. (On Unix it may be that of a
                // terminal, which has no such option.)
                options::stop_lingering(unsafe { os::borrowed_socket(fd) });
                // SAFETY: this function's only item.
                unsafe { self.run(sigpipe) }
            }
            // What the system says where it has no thread (`pthread_create(3)`).
            _ => -os::EAGAIN,
        }
    }
}

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
    /// Its thread is counted in `State::waiting`.
    waits: bool,
}

// SAFETY: the token is only compared, never dereferenced.
unsafe impl Send for Running {}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    done: Vec<Done>,
    running: Vec<Running>,
    idle: IdleThreads,
    /// The number of threads, without those whose job waits or was abandoned.
    threads: usize,
    /// The number of threads whose job waits.
    waiting: usize,
    /// The number of threads started so far, which numbers them.
    workers: usize,
    handles: Vec<(usize, JoinHandle<()>)>,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    /// After how long without a job a thread ends.
    idle_time: Duration,
    /// `done` is not empty.
    has_done: AtomicBool,
    most: usize,
    notify: Arc<dyn Notify>,
    sigpipe: SigPipe,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that panics runs under the lock.
        lock(&self.state)
    }

    /// Starts a thread if jobs are queued that no idle one takes. Returns `false` if the pool has
    /// no thread, and the system refuses one.
    fn start_if_needed(self: &Arc<Self>, state: &mut State) -> bool {
        if state.idle.len() >= state.queue.len() || state.threads >= self.most {
            return true;
        }
        let (shared, worker) = (self.clone(), state.workers + 1);
        let started = std::thread::Builder::new()
            .name("corio-blocking".into())
            .stack_size(STACK)
            .spawn(move || work(&shared, worker));
        // If the system is out of threads, existing ones do the work.
        let Ok(handle) = started else { return state.threads > 0 };
        state.threads += 1;
        state.workers = worker;
        state.handles.retain(|(_, handle)| !handle.is_finished());
        state.handles.push((worker, handle));
        true
    }

    /// Carries out what is queued on this thread, except for what may wait for ever.
    #[cold]
    fn run_here<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        while let Some(job) = state.queue.pop_front() {
            drop(state);
            // SAFETY: item 1 of `submit`, for jobs that are not in `done` yet; or the job's own
            // memory.
            let result = unsafe {
                match job.waits() {
                    true => job.run_without_thread(self.sigpipe),
                    false => job.run(self.sigpipe),
                }
            };
            state = self.state();
            self.report(&mut state, job.owner, result);
        }
    }

    /// Stores a result for [`Pool::take`].
    fn report(&self, state: &mut State, owner: Owner, result: i32) {
        if owner == Owner::Unwatched {
            return;
        }
        state.done.push(Done(owner, result));
        if !self.has_done.swap(true, Ordering::Release) {
            self.notify.notify();
        }
    }
}

/// The pool of one driver.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Jobs taken from `State::done`; kept for its capacity.
    taken: Vec<Done>,
    jobs: u64,
}

impl Pool {
    pub(super) fn new(most: usize, notify: Arc<dyn Notify>, sigpipe: SigPipe) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            idle_time: IDLE_TIME,
            has_done: AtomicBool::new(false),
            most: most.max(1),
            notify,
            sigpipe,
        };
        Pool { shared: Arc::new(shared), taken: Vec::new(), jobs: 0 }
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

    /// Closes `fd`. Returns `true` if [`take`](Self::take) will report the end: it does not for a
    /// close that may wait for long.
    pub(super) fn close(&mut self, fd: OwnedFd, ending: Ending) -> bool {
        let is_reported = ending != Ending::Waits;
        let owner = if is_reported { Owner::Detached } else { Owner::Unwatched };
        let request = Request::Close { fd: fd.into_raw_fd(), ending };
        self.push(Job { owner, request, own: None });
        is_reported
    }

    fn push(&mut self, job: Job) {
        self.jobs += 1;
        let mut state = self.shared.state();
        state.queue.push_back(job);
        if state.idle.len() >= state.queue.len() {
            let thread = state.idle.wake();
            drop(state);
            if let Some(thread) = thread {
                thread.notify_one();
            }
        } else if !self.shared.start_if_needed(&mut state) {
            self.shared.run_here(state);
        }
    }

    /// Asks for an early end. Returns `true` if the job was removed, or abandoned, so that `take`
    /// will not return it. Otherwise it is running, and will end by itself.
    pub(super) fn cancel(&mut self, op: Token) -> bool {
        let mut state = self.shared.state();
        let owner = Owner::Record(op);
        if let Some(index) = state.queue.iter().position(|job| job.owner == owner) {
            let job = &mut state.queue[index];
            if matches!(job.request, Request::Close { .. }) {
                // Its file has to be closed all the same.
                let leave = job.is_slow_close();
                if leave {
                    job.owner = Owner::Unwatched;
                }
                return leave;
            }
            state.queue.remove(index);
            return true;
        }
        let State { running, threads, .. } = &mut *state;
        match running.iter_mut().find(|running| running.owner == owner) {
            Some(running) if running.may_be_abandoned => {
                running.abandoned = true;
                running.owner = Owner::Unwatched;
                // Its thread does no more jobs, so another has to take the queue.
                if !running.waits {
                    *threads -= 1;
                }
                if !self.shared.start_if_needed(&mut state) {
                    self.shared.run_here(state);
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
                Owner::Detached | Owner::Unwatched => ended(None, result),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closing = true;
        let stuck: Vec<_> = state.running.iter().map(|running| running.worker).collect();
        let handles = std::mem::take(&mut state.handles);
        // What a thread takes from the queue from now on may wait for ever.
        let may_wait = state.queue.iter().any(Job::is_slow_close);
        state.idle.wake_all();
        drop(state);
        for (worker, handle) in handles {
            // A thread with a job in progress may block forever.
            if !may_wait && !stuck.contains(&worker) {
                let _ = handle.join();
            }
        }
    }
}

/// Runs a thread of the pool.
fn work(shared: &Arc<Shared>, worker: usize) {
    sys::block_signals();
    let own = Arc::new(Condvar::new());
    let mut state = shared.state();
    loop {
        let Some(job) = state.queue.pop_front() else {
            if state.closing {
                return;
            }
            let unused;
            (state, unused) = idle::wait(state, &own, shared.idle_time, |state| &mut state.idle);
            if unused && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
            continue;
        };
        state.running.push(Running {
            worker,
            owner: job.owner,
            may_be_abandoned: job.may_be_abandoned(),
            abandoned: false,
            waits: false,
        });
        drop(state);
        // SAFETY: item 1 of `submit`: the job is in `done` only after these calls. A job that
        // `cancel` gave up meanwhile has memory of its own.
        let result = unsafe {
            match job.waits() && !shared.leave_for_wait(worker) {
                true => job.run_without_thread(shared.sigpipe),
                false => job.run(shared.sigpipe),
            }
        };
        state = shared.state();
        let index = state.running.iter().position(|running| running.worker == worker);
        let running = index.map(|index| state.running.swap_remove(index));
        let (mut abandoned, mut waits) = (false, false);
        if let Some(running) = running {
            (abandoned, waits) = (running.abandoned, running.waits);
            shared.report(&mut state, running.owner, result);
        }
        if waits {
            state.waiting -= 1;
        }
        if abandoned {
            drop(state);
            if result >= 0 && matches!(job.request, Request::Open { .. }) {
                // SAFETY: the open has just returned this fd, and its result goes nowhere else.
                drop(unsafe { os::owned_file(result) });
            }
            return;
        }
        if waits {
            if state.threads >= shared.most {
                return;
            }
            state.threads += 1;
        }
    }
}

impl Shared {
    /// Takes a thread whose job is going to wait out of the count, so that another can take its
    /// place. Returns `false` if jobs are queued for which there is no other thread then.
    fn leave_for_wait(self: &Arc<Self>, worker: usize) -> bool {
        let mut state = self.state();
        let State { running, threads, waiting, .. } = &mut *state;
        let running = running.iter_mut().find(|running| running.worker == worker);
        // One that was abandoned has left the count before.
        let Some(running) = running.filter(|running| !running.abandoned) else { return true };
        if *waiting >= MOST_WAITING {
            return true;
        }
        running.waits = true;
        *threads -= 1;
        *waiting += 1;
        if self.start_if_needed(&mut state) {
            return true;
        }
        let State { running, threads, waiting, .. } = &mut *state;
        if let Some(running) = running.iter_mut().find(|running| running.worker == worker) {
            running.waits = false;
        }
        *threads += 1;
        *waiting -= 1;
        false
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

#[cfg(test)]
mod tests {
    use super::*;

    struct NoNotify;

    impl Notify for NoNotify {
        fn notify(&self) {}
    }

    #[cfg(unix)]
    #[test]
    fn threads_that_have_nothing_to_do_end() {
        let mut pool = Pool::new(4, Arc::new(NoNotify), sys::SigPipeBlock::new().get());
        let shared = Arc::get_mut(&mut pool.shared).unwrap();
        shared.idle_time = Duration::from_millis(5);
        for _ in 0..100 {
            pool.close(std::fs::File::open("/dev/null").unwrap().into(), Ending::Disk);
        }
        for _ in 0..20_000 {
            if pool.shared.state().threads == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let state = pool.shared.state();
        assert!(state.workers > 0 && state.done.len() == 100);
        assert_eq!((state.threads, state.idle.len()), (0, 0));
    }
}
