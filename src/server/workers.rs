//! Threads with a context each.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::cpus;
use super::jobs::{Jobs, Registration};
use crate::context::{Builder, Handle, IoContext};
use crate::driver::SetupError;
use crate::sync::{local, oneshot, park_until, watch};
use crate::task::{JoinError, JoinHandle, race, spawn};

/// How far a stop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody has asked for a stop.
    #[default]
    Running,
    /// No new work; what can finish does.
    Stopping,
    /// What is still there is to be cancelled.
    Forced,
}

/// What is done when a worker's program panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPanic {
    /// The others are [stopped](Workers::stop), too. The panic is in the worker's result.
    #[default]
    StopAll,
    /// The others go on without it. The panic is in the worker's result.
    Ignore,
    /// The program is started again on the same thread, at most so many times per worker; after that
    /// as [`StopAll`](Self::StopAll). Not while stopping.
    Restart(usize),
}

/// Chooses what [`Workers`] are like.
///
/// # Examples
/// See [`Workers`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct WorkersBuilder {
    count: Option<usize>,
    name: String,
    pin: bool,
    context: Builder,
    on_panic: OnPanic,
    jobs_limit: Option<usize>,
}

impl WorkersBuilder {
    /// How many there are, at least one; default: as many as the processors that this process may
    /// use, fewer if the time on them is limited by a cgroup's quota.
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count.max(1));
        self
    }

    /// What the threads are called, before a hyphen and their number; default `worker`. Linux shows
    /// 15 bytes of it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether each worker stays on one processor, in the order of [`cpus`](super::cpus()); default
    /// `true`. Without effect if there are more workers than processors, and on hosts that can't.
    ///
    /// Memory that a worker allocates is then on its own node, as the system places memory where it
    /// is first used.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// What each worker's context is like.
    pub fn context(mut self, context: Builder) -> Self {
        self.context = context;
        self
    }

    /// What is done when a worker's program panics; default [`OnPanic::StopAll`].
    pub fn on_panic(mut self, policy: OnPanic) -> Self {
        self.on_panic = policy;
        self
    }

    /// Has all workers share [`Jobs`], of which `limit` are queued at most: [`Worker::jobs`]. Each
    /// worker serves until its program has ended, then finishes what it has begun with, unless it is
    /// [forced](Workers::abort) to stop. Default: nothing is shared.
    ///
    /// # Examples
    /// See [`Jobs`].
    pub fn share_jobs(mut self, limit: usize) -> Self {
        self.jobs_limit = Some(limit);
        self
    }

    pub(super) fn how_many(&self) -> usize {
        self.count.unwrap_or_else(cpus::parallelism)
    }

    /// Starts them: each calls `program` on its own thread, within its own context, and awaits what it
    /// gives. No program starts before all contexts are there.
    ///
    /// # Errors
    /// When a thread or a context can't be made. Nothing is left behind then.
    pub fn start<P, F>(&self, program: P) -> Result<Workers<F::Output>, StartError>
    where
        P: Fn(Worker) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let count = self.how_many();
        let places = cpus::cpus();
        let pinned = self.pin && count <= places.len();
        let (phase, _) = watch::channel(Phase::Running);
        let crew = Arc::new(WorkerSet {
            phase,
            handles: OnceLock::new(),
            left: AtomicUsize::new(count),
            jobs: self.jobs_limit.map(Jobs::new),
        });
        let mut workers = Workers { crew: crew.clone(), threads: Vec::new() };
        let mut ready = Vec::new();
        let mut go = Vec::new();
        for index in 0..count {
            let (tell, told) = oneshot::channel();
            let (start, started) = oneshot::channel();
            let assignment = Assignment {
                index,
                cpu: places.get(index).filter(|_| pinned).map(|cpu| cpu.id),
                crew: crew.clone(),
                context: self.context.clone(),
                on_panic: self.on_panic,
                registration: crew.jobs.as_ref().map(Jobs::register),
                tell,
                started,
            };
            let program = program.clone();
            let thread = thread::Builder::new()
                .name(format!("{}-{index}", self.name))
                .spawn(move || assignment.work(program))
                // Those that have started find their `started` gone, and end.
                .map_err(|error| StartError::Thread { index, error })?;
            workers.threads.push(thread);
            ready.push(told);
            go.push(start);
        }
        let mut handles = Vec::new();
        for (index, told) in ready.into_iter().enumerate() {
            // Where a context is running, too: it takes microseconds, and waits for nothing here.
            match park_until(told) {
                Ok(Ok(handle)) => handles.push(handle),
                Ok(Err(error)) => return Err(StartError::Context { index, error }),
                Err(_) => return Err(StartError::Panicked { index }),
            }
        }
        let _ = crew.handles.set(handles);
        for start in go {
            // A worker waits for this, and for nothing else.
            let _ = start.send(());
        }
        Ok(workers)
    }
}

/// Why workers can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system refused a thread.
    #[error("no thread for worker {index}: {error}")]
    Thread {
        /// The worker's number.
        index: usize,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A worker could not make its context.
    #[error("no context for worker {index}: {error}")]
    Context {
        /// The worker's number.
        index: usize,
        /// Why not.
        #[source]
        error: SetupError,
    },
    /// A worker panicked before its program began.
    #[error("worker {index} panicked while it was starting")]
    Panicked {
        /// The worker's number.
        index: usize,
    },
}

/// What all workers share.
struct WorkerSet {
    phase: watch::Sender<Phase>,
    /// Set before any program starts.
    handles: OnceLock<Vec<Handle>>,
    /// Workers whose program has not ended.
    left: AtomicUsize,
    jobs: Option<Jobs>,
}

impl WorkerSet {
    /// Goes on to a phase; never back.
    fn advance(&self, phase: Phase) {
        self.phase.send_with(|now| *now = phase.max(*now));
    }
}

/// A worker before it works.
struct Assignment {
    index: usize,
    cpu: Option<usize>,
    crew: Arc<WorkerSet>,
    context: Builder,
    on_panic: OnPanic,
    /// There from the start, so that no job is refused because its worker is the first.
    registration: Option<Registration>,
    tell: oneshot::Sender<Result<Handle, SetupError>>,
    started: oneshot::Receiver<()>,
}

impl Assignment {
    /// `None`: it never came to start.
    fn work<P, F>(self, program: P) -> Option<Result<F::Output, JoinError>>
    where
        P: Fn(Worker) -> F,
        F: Future + 'static,
        F::Output: 'static,
    {
        // Before the context, so that its memory is near.
        let cpu = self.cpu.filter(|&cpu| cpus::pin(cpu).is_ok());
        let mut context = match self.context.build() {
            Ok(context) => context,
            Err(error) => {
                let _ = self.tell.send(Err(error));
                return None;
            }
        };
        let _ = self.tell.send(Ok(context.handle()));
        park_until(self.started).ok()?;
        let worker = Worker { index: self.index, cpu, crew: self.crew };
        let result = worker.run(&mut context, &program, self.on_panic, self.registration);
        worker.crew.left.fetch_sub(1, Ordering::Relaxed);
        Some(result)
    }
}

/// One of the [`Workers`], as its own program sees it.
///
/// # Examples
/// See [`Workers`].
#[derive(Clone)]
pub struct Worker {
    index: usize,
    cpu: Option<usize>,
    crew: Arc<WorkerSet>,
}

impl Worker {
    /// Its number, from zero.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.handles().len()
    }

    /// The processor that it is kept on.
    pub fn cpu(&self) -> Option<usize> {
        self.cpu
    }

    /// All workers' contexts, by number; [`Handle::spawn`] starts a task over there.
    pub fn handles(&self) -> &[Handle] {
        self.crew.handles.get().map_or(&[], Vec::as_slice)
    }

    /// What all workers share, and do when they have nothing else to do.
    ///
    /// # Panics
    /// When that was not asked for, by [`share_jobs`](WorkersBuilder::share_jobs).
    #[track_caller]
    pub fn jobs(&self) -> &Jobs {
        self.crew.jobs.as_ref().expect("these workers share no jobs: call `share_jobs`")
    }

    /// Waits until somebody asks for a stop.
    pub async fn stopping(&self) {
        let stopping = |phase: &Phase| *phase >= Phase::Stopping;
        // The sender is ours as well, so it is not gone.
        let _ = self.crew.phase.subscribe().wait_for(stopping).await;
    }

    /// How far a stop has come, to be waited upon.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.crew.phase.subscribe()
    }

    /// Asks all workers to stop, as [`Workers::stop`] does.
    pub fn stop_all(&self) {
        self.crew.advance(Phase::Stopping);
    }

    fn run<P, F>(
        &self,
        context: &mut IoContext,
        program: &P,
        on_panic: OnPanic,
        mut registration: Option<Registration>,
    ) -> Result<F::Output, JoinError>
    where
        P: Fn(Worker) -> F,
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut restarts = match on_panic {
            OnPanic::Restart(most) => most,
            _ => 0,
        };
        loop {
            let (result, again) = context.block_on(async {
                let service = self.crew.jobs.as_ref().map(Service::start);
                let result = self.run_program(program).await;
                let panicked = result.as_ref().is_err_and(JoinError::is_panic);
                let running = self.crew.phase.subscribe().get() == Phase::Running;
                let again = panicked && running && restarts > 0;
                if !again {
                    if panicked && on_panic != OnPanic::Ignore {
                        self.stop_all();
                    }
                    drop(registration.take());
                    if let Some(service) = service {
                        race(service.finish(), self.forced()).await;
                    }
                }
                (result, again)
            });
            if !again {
                return result;
            }
            restarts -= 1;
        }
    }

    /// In a task of its own, which takes a panic as any other task does; a panic of `program` itself
    /// counts as one of the task.
    async fn run_program<P, F>(&self, program: &P) -> Result<F::Output, JoinError>
    where
        P: Fn(Worker) -> F,
        F: Future + 'static,
        F::Output: 'static,
    {
        let worker = self.clone();
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| program(worker))) {
            Ok(future) => spawn(future).await,
            Err(panic) => Err(JoinError::panicked(panic)),
        }
    }

    async fn forced(&self) {
        // The sender is ours as well, so it is not gone.
        let _ = self.phase().wait_for(|&phase| phase == Phase::Forced).await;
    }
}

/// A worker's part in what all share.
struct Service {
    task: JoinHandle<()>,
    enough: local::oneshot::Sender<()>,
}

impl Service {
    fn start(jobs: &Jobs) -> Self {
        let (enough, told) = local::oneshot::channel();
        let jobs = jobs.clone();
        Service { task: spawn(async move { jobs.serve_until(told).await }), enough }
    }

    /// Takes no more, and waits for what was begun: somebody awaits it.
    async fn finish(self) {
        drop(self.enough);
        let _ = self.task.await;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).field("cpu", &self.cpu).finish()
    }
}

/// Threads with an [`IoContext`] each, all running the same program: one thread per processor, nothing
/// shared that is not asked for.
///
/// Dropping this stops the workers, and waits for them as [`join`](Self::join) does.
///
/// # Examples
/// ```
/// use corio::server::Workers;
/// let workers = Workers::builder().count(2).name("adder").start(|worker| async move {
///     // This runs on each worker's own thread, so nothing in here has to be `Send`.
///     if worker.index() > 0 {
///         worker.stopping().await;
///         return 1;
///     }
///     // A task on the other one:
///     let answer = worker.handles()[1].spawn(|| async { 40 }).await.unwrap();
///     worker.stop_all();
///     answer
/// })?;
/// let results = workers.join();
/// assert_eq!(results.into_iter().map(Result::unwrap).sum::<i32>(), 41);
/// # Ok::<(), corio::server::StartError>(())
/// ```
#[must_use = "dropping this stops the workers"]
pub struct Workers<T> {
    crew: Arc<WorkerSet>,
    threads: Vec<thread::JoinHandle<Option<Result<T, JoinError>>>>,
}

impl Workers<()> {
    /// As many workers as there are processors, to be configured.
    pub fn builder() -> WorkersBuilder {
        WorkersBuilder {
            count: None,
            name: "worker".to_owned(),
            pin: true,
            context: IoContext::builder(),
            on_panic: OnPanic::default(),
            jobs_limit: None,
        }
    }
}

impl<T> Workers<T> {
    /// All workers' contexts, by number.
    pub fn handles(&self) -> &[Handle] {
        self.crew.handles.get().map_or(&[], Vec::as_slice)
    }

    /// Asks the workers to stop: what waits in [`Worker::stopping`] goes on. A program that never asks
    /// is not disturbed.
    pub fn stop(&self) {
        self.crew.advance(Phase::Stopping);
    }

    /// Asks the workers to stop at once: [`Worker::phase`] says [`Phase::Forced`].
    pub fn abort(&self) {
        self.crew.advance(Phase::Forced);
    }

    /// A way to stop the workers from elsewhere, such as a task that waits for signals.
    pub fn stopper(&self) -> StopHandle {
        StopHandle(self.crew.clone())
    }

    /// How many workers' programs have not ended.
    pub fn remaining(&self) -> usize {
        self.crew.left.load(Ordering::Relaxed)
    }

    /// Waits until every worker's program has ended by itself, and gives what they gave, by number; or
    /// their panics. It does not ask them to stop.
    pub fn join(mut self) -> Vec<Result<T, JoinError>> {
        self.join_all()
    }

    fn join_all(&mut self) -> Vec<Result<T, JoinError>> {
        let ended = self.threads.drain(..).map(|thread| match thread.join() {
            Ok(Some(result)) => result,
            Ok(None) => Err(JoinError::cancelled()),
            // The program's panics have been caught: this is one of the loop's own.
            Err(panic) => Err(JoinError::panicked(panic)),
        });
        ended.collect()
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.stop();
        self.join_all();
    }
}

impl<T> fmt::Debug for Workers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, left) = (self.threads.len(), self.remaining());
        f.debug_struct("Workers").field("count", &count).field("left", &left).finish()
    }
}

/// Stops [`Workers`] from anywhere; cheap to clone.
#[derive(Clone)]
pub struct StopHandle(Arc<WorkerSet>);

impl StopHandle {
    /// As [`Workers::stop`].
    pub fn stop(&self) {
        self.0.advance(Phase::Stopping);
    }

    /// As [`Workers::abort`].
    pub fn abort(&self) {
        self.0.advance(Phase::Forced);
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").finish_non_exhaustive()
    }
}
