//! A bounded pool of threads.
//!
//! One lock, one condition variable: a job takes longer than both.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sync::{oneshot, wait};
use crate::task::JoinError;

type Work = Box<dyn FnOnce() + Send>;

struct Job {
    id: u64,
    work: Work,
}

/// Somebody who waits for room in the queue.
struct Waiting {
    id: u64,
    /// `None`: there is a place for it.
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    waiting: VecDeque<Waiting>,
    next_id: u64,
    /// Places that were given to those who wait, and are not taken yet.
    promised: usize,
    threads: usize,
    idle: usize,
    started: usize,
    closed: bool,
    handles: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Told when the last thread of a closed pool ends.
    ended: Condvar,
    most_threads: usize,
    most_queued: usize,
    idle_time: Duration,
    name: String,
}

/// Chooses what a [`BlockingPool`] is like.
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
    /// The most threads, at least one; default 4.
    pub fn threads(mut self, most: usize) -> Self {
        self.threads = most.max(1);
        self
    }

    /// How many jobs can wait for a thread, at least one; default 1024. Those who bring more wait for
    /// room.
    pub fn queue(mut self, most: usize) -> Self {
        self.queue = most.max(1);
        self
    }

    /// After how long without work a thread ends; default 10 s.
    pub fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// What the threads are called, before a hyphen and their number; default `spawn_blocking`.
    ///
    /// # Panics
    /// If there is a zero byte in it, which no system takes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        assert!(!self.name.contains('\0'), "a thread's name has no zero byte");
        self
    }

    /// Makes the pool. Threads are started only when there is work.
    pub fn build(&self) -> BlockingPool {
        BlockingPool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                work: Condvar::new(),
                ended: Condvar::new(),
                most_threads: self.threads,
                most_queued: self.queue,
                idle_time: self.idle_time,
                name: self.name.clone(),
            }),
        }
    }
}

/// A bounded pool of threads for work that would hold a loop up.
///
/// Dropping it is a [`shutdown`](Self::shutdown).
///
/// # Examples
/// ```
/// use corio::blocking::BlockingPool;
/// let pool = BlockingPool::builder().threads(2).name("hash").build();
/// let mut context = corio::IoContext::new(8)?;
/// let sum = context.block_on(pool.run(|| (1..=1000_u64).sum::<u64>()));
/// assert_eq!(sum.unwrap(), 500_500);
/// // A plain thread can wait, too:
/// assert_eq!(pool.run(|| 6 * 7).join().unwrap(), 42);
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct BlockingPool {
    shared: Arc<Shared>,
}

/// Why offloaded work has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// The work panicked; [`JoinError::resume_panic`] goes on with it.
    #[error("the work panicked: {0}")]
    Panicked(JoinError),
    /// The pool was shut down before a thread began with the work.
    #[error("the pool was shut down before the work began")]
    Closed,
    /// There is no thread to do it, and the system refuses one.
    #[error("no thread for the work: {0}")]
    NoThread(#[source] io::Error),
}

impl From<BlockingError> for io::Error {
    fn from(error: BlockingError) -> Self {
        match error {
            BlockingError::NoThread(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

impl BlockingPool {
    /// A pool to be configured.
    pub fn builder() -> BlockingPoolBuilder {
        BlockingPoolBuilder {
            threads: 4,
            queue: 1024,
            idle_time: Duration::from_secs(10),
            name: "spawn_blocking".to_owned(),
        }
    }

    /// Has `work` done by a thread of the pool, and waits for the result; for room in the queue first,
    /// in order. On any context or executor; [`SpawnBlocking::join`] is for plain threads.
    ///
    /// A future that is dropped, or cancelled, before a thread has begun takes its work back, which is
    /// dropped there and then. Work that has begun goes on, and its result is dropped.
    ///
    /// # Errors
    /// See [`BlockingError`].
    pub fn run<F, T>(&self, work: F) -> SpawnBlocking<'_, F, T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        SpawnBlocking { shared: &self.shared, stage: Stage::New(Some(work)) }
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }

    /// Refuses new work, gives up what no thread has begun with ([`BlockingError::Closed`]), and waits for
    /// the rest, as does every further call. This blocks the thread. Called by the pool's own work, it
    /// does not wait.
    pub fn shutdown(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let jobs = std::mem::take(&mut state.queue);
        let wakers: Vec<_> =
            state.waiting.iter_mut().filter_map(|waiting| waiting.waker.take()).collect();
        drop(state);
        self.shared.work.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        // What jobs own may panic as it is dropped; the threads are waited for all the same.
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
        // Handles stay in place until then, so that whoever else shuts down waits, too.
        while state.threads > 0 {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        // No foreign code runs under the lock, but for a waker's clone, which changes nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to those who wait, in order; returns whom to wake.
    fn grant(&self, state: &mut State) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let waiting = state.waiting.iter_mut().filter(|waiting| waiting.waker.is_some());
        for waiting in waiting {
            if state.queue.len() + state.promised >= self.most_queued {
                break;
            }
            state.promised += 1;
            wakers.extend(waiting.waker.take());
        }
        wakers
    }

    /// Queues a job in a place that the caller has, and sees to it that there is a thread.
    fn push(self: &Arc<Self>, mut state: MutexGuard<'_, State>, job: Job) -> io::Result<()> {
        let id = job.id;
        state.queue.push_back(job);
        if state.idle >= state.queue.len() || state.threads == self.most_threads {
            drop(state);
            self.work.notify_one();
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

    /// What a thread does.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(job) = state.queue.pop_front() else {
                if state.closed {
                    break;
                }
                state.idle += 1;
                let (woken, waited) = self
                    .work
                    .wait_timeout(state, self.idle_time)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if waited.timed_out() && state.queue.is_empty() {
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

    /// Somebody does not wait for room any longer, or takes a job back.
    fn forget(&self, id: u64) {
        let mut state = self.lock();
        let find = state.waiting.binary_search_by_key(&id, |waiting| waiting.id);
        let waiting = find.ok().and_then(|place| state.waiting.remove(place));
        if waiting.as_ref().is_some_and(|waiting| waiting.waker.is_none()) {
            state.promised = state.promised.saturating_sub(1);
        }
        let place = state.queue.iter().position(|job| job.id == id);
        let job = place.and_then(|place| state.queue.remove(place));
        let wakers = self.grant(&mut state);
        drop(state);
        // Before the job is dropped, as what it owns may panic.
        wakers.into_iter().for_each(Waker::wake);
        drop((waiting, job));
    }
}

/// Calls what may panic by a foreign waker or destructor, which must not end the thread.
fn contain(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        // It may panic in its turn when it is dropped.
        std::mem::forget(panic);
    }
}

/// Work that is being done by a pool: a future; see [`BlockingPool::run`].
#[must_use = "the work is not done unless this is awaited"]
pub struct SpawnBlocking<'a, F, T> {
    shared: &'a Arc<Shared>,
    stage: Stage<F, T>,
}

enum Stage<F, T> {
    New(Option<F>),
    /// For room in the queue.
    Waiting(u64, Option<F>),
    Queued(u64, oneshot::Receiver<Result<T, JoinError>>),
    Over,
}

// Nothing in it is pinned.
impl<F, T> Unpin for SpawnBlocking<'_, F, T> {}

impl<F, T> SpawnBlocking<'_, F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// Waits on a plain thread.
    ///
    /// # Errors
    /// See [`BlockingError`].
    ///
    /// # Panics
    /// Within a running context, which it would block.
    #[track_caller]
    pub fn join(self) -> Result<T, BlockingError> {
        wait(self)
    }

    fn submit(&mut self, state: MutexGuard<'_, State>, id: u64, work: F) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(JoinError::panicked);
            if let Err(Ok(unwanted)) = sender.send(result) {
                // A destructor's panic has nobody to go to.
                let _ = catch_unwind(AssertUnwindSafe(move || drop(unwanted)));
            }
        });
        self.stage = Stage::Queued(id, receiver);
        self.shared.push(state, Job { id, work })
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
        let shared = this.shared;
        let (id, work) = match &mut this.stage {
            Stage::Queued(_, receiver) => {
                let Poll::Ready(received) = Pin::new(receiver).poll(cx) else {
                    return Poll::Pending;
                };
                this.stage = Stage::Over;
                return Poll::Ready(match received {
                    Ok(result) => result.map_err(BlockingError::Panicked),
                    Err(_) => Err(BlockingError::Closed),
                });
            }
            Stage::New(work) => (None, work),
            Stage::Waiting(id, work) => (Some(*id), work),
            Stage::Over => panic!("an SpawnBlocking was polled after it gave its result"),
        };
        let mut state = shared.lock();
        if state.closed {
            drop(state);
            drop(work.take());
            // Whoever waited is off the list when this is dropped.
            return Poll::Ready(Err(BlockingError::Closed));
        }
        let id = match id {
            None => {
                let id = state.next_id;
                state.next_id += 1;
                let room = state.queue.len() + state.promised < shared.most_queued;
                if !room || state.waiting.iter().any(|waiting| waiting.waker.is_some()) {
                    let waker = Some(cx.waker().clone());
                    state.waiting.push_back(Waiting { id, waker });
                    drop(state);
                    this.stage = Stage::Waiting(id, work.take());
                    return Poll::Pending;
                }
                id
            }
            Some(id) => {
                let place = state.waiting.binary_search_by_key(&id, |waiting| waiting.id);
                let place = place.expect("who waits is on the list");
                if let Some(waker) = &mut state.waiting[place].waker {
                    let old = std::mem::replace(waker, cx.waker().clone());
                    drop(state);
                    drop(old);
                    return Poll::Pending;
                }
                state.waiting.remove(place);
                state.promised -= 1;
                id
            }
        };
        let work = work.take().expect("the work is there until it is queued");
        if let Err(error) = this.submit(state, id, work) {
            this.stage = Stage::Over;
            return Poll::Ready(Err(BlockingError::NoThread(error)));
        }
        self.poll(cx)
    }
}

impl<F, T> Drop for SpawnBlocking<'_, F, T> {
    fn drop(&mut self) {
        if let Stage::Waiting(id, _) | Stage::Queued(id, _) = self.stage {
            self.shared.forget(id);
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
