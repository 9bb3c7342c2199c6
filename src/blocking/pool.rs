//! A bounded pool of threads.
//!
//! One lock for all: a job takes longer than that.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::debug_as_display;
use crate::os::idle::{self, IdleThreads};
use crate::os::lock::{ignore_poison, lock};
use crate::runtime::poll_budget::within_budget;
use crate::sync::wait_list::{Ticket, Turn, WaitList};
use crate::sync::{oneshot, wait};
use crate::task::JoinError;

type Work = Box<dyn FnOnce() + Send>;

struct Job {
    id: u64,
    work: Work,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Futures that wait for room in the queue.
    waiting: WaitList,
    next_id: u64,
    threads: usize,
    /// Threads that wait for a job.
    idle: IdleThreads,
    /// How many threads have been started so far; numbers them.
    started: usize,
    closed: bool,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when the last thread ends.
    ended: Condvar,
    most_threads: usize,
    most_queued: usize,
    idle_time: Duration,
    name: String,
}

/// Configures a [`BlockingPool`].
///
/// # Examples
/// See [`BlockingPool`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct BlockingPoolBuilder {
    threads: usize,
    queue: usize,
    idle_time: Duration,
    name: String,
}

impl BlockingPoolBuilder {
    /// Sets the maximum number of threads, at least one; default 4.
    #[doc(alias = "max_blocking_threads")]
    pub fn threads(mut self, most: usize) -> Self {
        self.threads = most.max(1);
        self
    }

    /// Sets how many jobs can be queued, at least one; default 1024. Callers that bring more wait
    /// for room.
    pub fn queue(mut self, most: usize) -> Self {
        self.queue = most.max(1);
        self
    }

    /// Sets after how long without work a thread ends; default 10 s. `Duration::MAX` means never.
    /// Work goes to the thread that has been idle for the shortest time, so that only as many
    /// threads remain as the load needs.
    #[doc(alias = "thread_keep_alive")]
    pub fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// Sets the threads' name, which a hyphen and a number follow; default `spawn_blocking`.
    ///
    /// # Panics
    /// If the name contains a zero byte, which no system accepts.
    #[doc(alias = "thread_name")]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        assert!(!self.name.contains('\0'), "thread name {:?} contains a zero byte", self.name);
        self
    }

    /// Creates the pool. Threads are started only when there is work.
    pub fn build(&self) -> BlockingPool {
        BlockingPool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                ended: Condvar::new(),
                most_threads: self.threads,
                most_queued: self.queue,
                idle_time: self.idle_time,
                name: self.name.clone(),
            }),
        }
    }
}

/// A bounded pool of threads for calls that block, and for long computations.
///
/// Dropping it [shuts it down](Self::shutdown).
///
/// # Examples
/// ```
/// use corio::blocking::BlockingPool;
/// let pool = BlockingPool::builder().threads(2).name("hash").build();
/// let mut context = corio::IoContext::new(8)?;
/// let sum = context.block_on(pool.run(|| (1..=1000_u64).sum::<u64>()));
/// assert_eq!(sum.unwrap(), 500_500);
/// // On a plain thread:
/// assert_eq!(pool.run(|| 6 * 7).join().unwrap(), 42);
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct BlockingPool {
    shared: Arc<Shared>,
}

/// Why work has no result.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// The work panicked; [`JoinError::resume_panic`] continues the panic.
    #[error("the work on the blocking pool panicked: {0}")]
    Panicked(JoinError),
    /// The pool was shut down before a thread started the work.
    #[error("blocking pool closed: it was shut down before the work was started")]
    Closed,
    /// The pool has no thread, and the system refused one.
    #[error("no thread for the work: {0}; raise the limit on threads (ulimit -u, pids.max)")]
    NoThread(#[source] io::Error),
}

debug_as_display!(BlockingError);

impl From<BlockingError> for io::Error {
    fn from(error: BlockingError) -> Self {
        match error {
            BlockingError::NoThread(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

impl BlockingPool {
    /// Returns a builder with the defaults.
    pub fn builder() -> BlockingPoolBuilder {
        BlockingPoolBuilder {
            threads: 4,
            queue: 1024,
            idle_time: Duration::from_secs(10),
            name: "spawn_blocking".to_owned(),
        }
    }

    /// Runs `work` on a thread of the pool, and returns a future of its result. The work is queued
    /// by this call, before the first poll. The future can be awaited on any context or executor;
    /// [`SpawnBlocking::join`] waits on a plain thread.
    ///
    /// If the queue is full at the call, the future keeps the work: from its first poll on it waits
    /// for room, in order, and then queues it. So callers that await slow down to the pool's speed.
    ///
    /// A future that is dropped, or cancelled, before a thread has started the work takes the work
    /// back, and drops it at once. Work that has been started goes on, and its result is dropped.
    /// To let work run without waiting for it, spawn the future:
    /// `drop(corio::spawn(corio::spawn_blocking(work)))`.
    ///
    /// # Errors
    /// See [`BlockingError`]. They are reported by the future, never by a panic of this call.
    ///
    /// # Examples
    /// See [`BlockingPool`].
    pub fn run<F, T>(&self, work: F) -> SpawnBlocking<'_, F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let mut run = SpawnBlocking { shared: &self.shared, stage: Stage::Over };
        let state = self.shared.lock();
        if state.closed {
            drop(state);
            drop(work);
            run.stage = Stage::Failed(BlockingError::Closed);
        } else if self.shared.has_room(&state) {
            run.submit(state, work);
        } else {
            run.stage = Stage::Full(None, Some(work));
        }
        run
    }

    /// Returns how many jobs are queued.
    pub fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Returns how many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }

    /// Refuses new work, drops what no thread has started (its futures give
    /// [`BlockingError::Closed`]), and waits for the rest, as does every further call. Blocks the
    /// calling thread; called by the pool's own work, it does not wait.
    pub fn shutdown(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.queue);
        let mut wakers = Vec::new();
        state.waiting.grant_all(&mut wakers);
        state.idle.wake_all();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        // A destructor of what a job owns may panic; the threads are waited for all the same.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(jobs)));
        self.wait_for_threads();
        if let Err(panic) = dropped {
            resume_unwind(panic);
        }
    }

    fn wait_for_threads(&self) {
        let mut state = self.shared.lock();
        let own = thread::current().id();
        if state.handles.iter().any(|handle| handle.thread().id() == own) {
            return;
        }
        // Handles stay in place until then, so that other threads that shut down wait, too.
        while state.threads > 0 {
            state = ignore_poison(self.shared.ended.wait(state));
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            // Panics of jobs are caught.
            let _ = handle.join();
        }
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock but a waker's `clone`, which changes nothing.
        lock(&self.state)
    }

    /// Returns `true` if the queue has room that no other future waits for.
    fn has_room(&self, state: &State) -> bool {
        let used = state.queue.len() + state.waiting.granted();
        used < self.most_queued && !state.waiting.has_waiting()
    }

    /// Grants free room to waiting futures, in order; returns the wakers to be woken.
    fn grant(&self, state: &mut State) -> Vec<Waker> {
        let mut wakers = Vec::new();
        state.waiting.grant(self.most_queued.saturating_sub(state.queue.len()), &mut wakers);
        wakers
    }

    /// Queues a job, for which there is room, and starts a thread if none is idle.
    fn push(self: &Arc<Self>, mut state: MutexGuard<'_, State>, job: Job) -> io::Result<()> {
        let id = job.id;
        state.queue.push_back(job);
        if state.idle.len() >= state.queue.len() || state.threads == self.most_threads {
            let thread = state.idle.wake();
            drop(state);
            if let Some(thread) = thread {
                thread.notify_one();
            }
            return Ok(());
        }
        state.threads += 1;
        state.started += 1;
        let name = format!("{}-{}", self.name, state.started);
        let shared = self.clone();
        match thread::Builder::new().name(name).spawn(move || shared.work()) {
            Ok(handle) => {
                state.handles.retain(|handle| !handle.is_finished());
                state.handles.push(handle);
                Ok(())
            }
            Err(error) => {
                state.threads -= 1;
                if state.threads > 0 {
                    return Ok(());
                }
                let place = state.queue.iter().position(|job| job.id == id);
                let job = place.and_then(|place| state.queue.remove(place));
                let wakers = self.grant(&mut state);
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                drop(job);
                Err(error)
            }
        }
    }

    /// Runs jobs; the main function of each thread.
    fn work(&self) {
        let own = Arc::new(Condvar::new());
        let mut state = self.lock();
        loop {
            let Some(job) = state.queue.pop_front() else {
                if state.closed {
                    break;
                }
                let unused;
                (state, unused) = idle::wait(state, &own, self.idle_time, |state| &mut state.idle);
                if unused && state.queue.is_empty() {
                    break;
                }
                continue;
            };
            let wakers = self.grant(&mut state);
            drop(state);
            wakers.into_iter().for_each(|waker| contain(|| waker.wake()));
            contain(job.work);
            state = self.lock();
        }
        state.threads -= 1;
        if state.threads == 0 {
            self.ended.notify_all();
        }
    }

    /// Takes a waiting future off the list.
    fn leave(&self, ticket: Ticket) {
        let mut state = self.lock();
        let waker = state.waiting.leave(ticket);
        let wakers = self.grant(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(waker);
    }

    /// Takes a job back that no thread has started.
    fn take_back(&self, id: u64) {
        let mut state = self.lock();
        let place = state.queue.iter().position(|job| job.id == id);
        let job = place.and_then(|place| state.queue.remove(place));
        let wakers = self.grant(&mut state);
        drop(state);
        // Before the job is dropped, as a destructor of what it owns may panic.
        wakers.into_iter().for_each(Waker::wake);
        drop(job);
    }
}

/// Calls foreign code (a job, a waker), whose panic must not end the thread.
fn contain(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        // Its destructor may panic, too.
        std::mem::forget(panic);
    }
}

/// The future of work on a pool; returned by [`BlockingPool::run`] and
/// [`spawn_blocking`](crate::spawn_blocking()).
#[must_use = "dropping this takes the work back if no thread has started it; await it or spawn it"]
pub struct SpawnBlocking<'a, F, T> {
    shared: &'a Arc<Shared>,
    stage: Stage<F, T>,
}

enum Stage<F, T> {
    /// The queue was full: the work, and the place on the list once the future has been polled.
    Full(Option<Ticket>, Option<F>),
    Queued(u64, oneshot::Receiver<Result<T, JoinError>>),
    /// The work was refused.
    Failed(BlockingError),
    Over,
}

// Nothing in it is pinned.
impl<F, T> Unpin for SpawnBlocking<'_, F, T> {}

impl<F, T> SpawnBlocking<'_, F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// Waits for the result on a plain thread, which is blocked until then.
    ///
    /// # Errors
    /// See [`BlockingError`].
    ///
    /// # Panics
    /// On a thread that runs a context, which the wait would block.
    #[track_caller]
    pub fn join(self) -> Result<T, BlockingError> {
        wait(self)
    }

    /// Polls until the work is queued, or refused.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BlockingError>> {
        let shared = self.shared;
        if let Stage::Full(ticket, work) = &mut self.stage {
            let mut state = shared.lock();
            if state.closed {
                drop(state);
                drop(work.take());
                // Its ticket leaves the list when this is dropped.
                return Poll::Ready(Err(BlockingError::Closed));
            }
            let mut wakers = Vec::new();
            let room = shared.most_queued.saturating_sub(state.queue.len());
            if ticket.is_some() || !shared.has_room(&state) {
                match state.waiting.poll(ticket, cx.waker(), room, &mut wakers) {
                    Turn::Granted(place) => {
                        state.waiting.leave(place);
                        *ticket = None;
                    }
                    Turn::Waits(waits) => {
                        drop(state);
                        waits.wake(wakers, cx.waker());
                        return Poll::Pending;
                    }
                }
            }
            let work = work.take().expect("a SpawnBlocking was polled after it had completed");
            self.submit(state, work);
            wakers.into_iter().for_each(Waker::wake);
        }
        if let Stage::Queued(..) = self.stage {
            return Poll::Ready(Ok(()));
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Failed(error) => Poll::Ready(Err(error)),
            _ => panic!("a SpawnBlocking was polled after it had completed"),
        }
    }

    /// Queues the work, for which there is room.
    fn submit(&mut self, mut state: MutexGuard<'_, State>, work: F) {
        let id = state.next_id;
        state.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(JoinError::panicked);
            if let Err(Ok(unwanted)) = sender.send(result) {
                // The future was dropped, so a destructor's panic has no receiver.
                let _ = catch_unwind(AssertUnwindSafe(move || drop(unwanted)));
            }
        });
        self.stage = match self.shared.push(state, Job { id, work }) {
            Ok(()) => Stage::Queued(id, receiver),
            Err(error) => Stage::Failed(BlockingError::NoThread(error)),
        };
    }
}

impl<F, T> Future for SpawnBlocking<'_, F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<T, BlockingError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let queued = match this.stage {
            Stage::Queued(..) => Poll::Ready(Ok(())),
            Stage::Full(Some(_), _) => this.poll_queue(cx),
            _ => within_budget(cx, |cx| this.poll_queue(cx)),
        };
        ready!(queued)?;
        let Stage::Queued(_, receiver) = &mut this.stage else { unreachable!("it is queued") };
        let received = ready!(Pin::new(receiver).poll(cx));
        this.stage = Stage::Over;
        Poll::Ready(match received {
            Ok(result) => result.map_err(BlockingError::Panicked),
            Err(_) => Err(BlockingError::Closed),
        })
    }
}

impl<F, T> Drop for SpawnBlocking<'_, F, T> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Full(Some(ticket), _) => self.shared.leave(ticket),
            Stage::Queued(id, _) => self.shared.take_back(id),
            _ => {}
        }
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("BlockingPool")
            .field("threads", &state.threads)
            .field("queued", &state.queue.len())
            .finish_non_exhaustive()
    }
}

impl<F, T> fmt::Debug for SpawnBlocking<'_, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpawnBlocking")
    }
}
