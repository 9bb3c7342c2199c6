//! Worker threads: each runs a context and the same program.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::cpus;
use super::jobs::{Jobs, Registration};
use crate::context::{Builder, Handle, IoContext};
use crate::driver::SetupError;
use crate::error::debug_as_display;
use crate::sync::{local, oneshot, park_until, watch};
use crate::task::{JoinError, JoinHandle, race, spawn};

/// The phase of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No stop was requested.
    #[default]
    Running,
    /// Workers take no new work; work in progress may finish.
    Stopping,
    /// Work in progress is cancelled.
    Forced,
}

/// What happens when a worker's program panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPanic {
    /// The other workers are [stopped](Workers::stop), too. The worker's result has the panic.
    #[default]
    StopAll,
    /// The other workers go on without it. The worker's result has the panic.
    Ignore,
    /// The program is started again on the same thread, at most this many times per worker; after
    /// that, or during a stop, as [`StopAll`](Self::StopAll).
    Restart(usize),
}

/// Configures [`Workers`].
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
    /// Sets the number of workers, at least one; default: the number of processors that this
    /// process may use, or fewer if a cgroup's quota limits their time.
    #[doc(alias = "worker_threads")]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count.max(1));
        self
    }

    /// Sets the threads' name, which a hyphen and the worker's number follow; default `worker`.
    /// Linux shows the first 15 bytes.
    #[doc(alias = "thread_name")]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets whether each worker is pinned to one processor, in the order of
    /// [`cpus`](super::cpus()); default `true`. No effect if there are more workers than
    /// processors, and on systems without `sched_setaffinity(2)`.
    ///
    /// A pinned worker's memory is on its own NUMA node, as the system places memory where it is
    /// first used. But it cannot leave a processor that other load uses, and then its connections
    /// get less than those of other workers: where other programs share the processors, and equal
    /// service counts for more than throughput, choose `false`.
    ///
    /// Measured by `cargo bench --bench balance` with 64 connections, on two processors that the
    /// clients and other programs shared: pinned workers answered 2.6 times the messages on
    /// io_uring and 2.1 times on the readiness driver, but the connection with the most had 23 and
    /// 28 times the messages of the one with the fewest, where it was 1.2 and 1.4 times without.
    /// Pinning is the default for its throughput.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Sets the configuration of each worker's context.
    pub fn context(mut self, context: Builder) -> Self {
        self.context = context;
        self
    }

    /// Sets what happens when a worker's program panics; default [`OnPanic::StopAll`].
    pub fn on_panic(mut self, policy: OnPanic) -> Self {
        self.on_panic = policy;
        self
    }

    /// Makes all workers share a queue of [`Jobs`] with room for `limit` jobs: see
    /// [`Worker::jobs`]. Each worker takes jobs until its program has ended, then finishes the jobs
    /// that it has started, unless the workers are [aborted](Workers::abort). Default: no queue.
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

    /// Starts the workers: each calls `program` on its own thread, within its own context, and
    /// awaits the future that it returns. No program starts before all contexts exist.
    ///
    /// # Errors
    /// If a thread or a context cannot be created. Nothing is left behind then.
    ///
    /// # Examples
    /// See [`Workers`].
    pub fn start<P, F>(&self, program: P) -> Result<Workers<F::Output>, StartError>
    where
        P: Fn(Worker) -> F + Clone + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let count = self.how_many();
        let cpus = cpus::cpus();
        let pinned = self.pin && count <= cpus.len();
        let (phase, _) = watch::channel(Phase::Running);
        let set = Arc::new(WorkerSet {
            phase,
            handles: OnceLock::new(),
            remaining: AtomicUsize::new(count),
            jobs: self.jobs_limit.map(Jobs::new),
        });
        let mut workers = Workers { set: set.clone(), threads: Vec::new() };
        let mut contexts = Vec::new();
        let mut starts = Vec::new();
        for index in 0..count {
            let (report, context) = oneshot::channel();
            let (start, started) = oneshot::channel();
            let assignment = Assignment {
                index,
                cpu: cpus.get(index).filter(|_| pinned).map(|cpu| cpu.id),
                set: set.clone(),
                context: self.context.clone(),
                on_panic: self.on_panic,
                registration: set.jobs.as_ref().map(Jobs::register),
                report,
                started,
            };
            let program = program.clone();
            let thread = thread::Builder::new()
                .name(format!("{}-{index}", self.name))
                .spawn(move || assignment.work(program))
                // Workers that run already find their `started` closed, and end.
                .map_err(|error| StartError::Thread { index, error })?;
            workers.threads.push(thread);
            contexts.push(context);
            starts.push(start);
        }
        let mut handles = Vec::new();
        for (index, context) in contexts.into_iter().enumerate() {
            // Allowed on a thread that runs a context, too: it takes microseconds, and does not
            // depend on that context.
            match park_until(context) {
                Ok(Ok(handle)) => handles.push(handle),
                Ok(Err(error)) => return Err(StartError::Context { index, error }),
                Err(_) => return Err(StartError::Panicked { index }),
            }
        }
        let _ = set.handles.set(handles);
        for start in starts {
            // No error: a worker waits for this, and for nothing else.
            let _ = start.send(());
        }
        Ok(workers)
    }
}

/// Why workers could not be started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system refused a thread.
    #[error(
        "no thread for worker {index}: {error}; raise the limit on threads (ulimit -u, pids.max)"
    )]
    Thread {
        /// The worker's number.
        index: usize,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// A worker could not create its context.
    #[error("no context for worker {index}: {error}")]
    Context {
        /// The worker's number.
        index: usize,
        /// The context's error.
        #[source]
        error: SetupError,
    },
    /// A worker panicked before its program started.
    #[error("worker {index} panicked while it was starting")]
    Panicked {
        /// The worker's number.
        index: usize,
    },
}

debug_as_display!(StartError);

/// What the workers of one set share.
struct WorkerSet {
    phase: watch::Sender<Phase>,
    /// Set before any program starts.
    handles: OnceLock<Vec<Handle>>,
    /// How many workers' programs have not ended.
    remaining: AtomicUsize,
    jobs: Option<Jobs>,
}

impl WorkerSet {
    /// Advances to a phase; never goes back.
    fn advance(&self, phase: Phase) {
        self.phase.send_with(|now| *now = phase.max(*now));
    }
}

/// What a worker's thread starts with.
struct Assignment {
    index: usize,
    cpu: Option<usize>,
    set: Arc<WorkerSet>,
    context: Builder,
    on_panic: OnPanic,
    /// Registered before the thread starts, so that the first worker to run refuses no jobs.
    registration: Option<Registration>,
    /// Reports its context to [`WorkersBuilder::start`].
    report: oneshot::Sender<Result<Handle, SetupError>>,
    /// Completes when all contexts exist.
    started: oneshot::Receiver<()>,
}

impl Assignment {
    /// Runs the worker; the main function of its thread. Returns `None` if its program never
    /// started.
    fn work<P, F>(self, program: P) -> Option<Result<F::Output, JoinError>>
    where
        P: Fn(Worker) -> F,
        F: Future + 'static,
        F::Output: 'static,
    {
        // Before the context, so that its memory is on the processor's node.
        let cpu = self.cpu.filter(|&cpu| cpus::pin(cpu).is_ok());
        let mut context = match self.context.build() {
            Ok(context) => context,
            Err(error) => {
                let _ = self.report.send(Err(error));
                return None;
            }
        };
        let _ = self.report.send(Ok(context.handle()));
        park_until(self.started).ok()?;
        let worker = Worker { index: self.index, cpu, set: self.set };
        let result = worker.run(&mut context, &program, self.on_panic, self.registration);
        worker.set.remaining.fetch_sub(1, Ordering::Relaxed);
        Some(result)
    }
}

/// One of the [`Workers`], as seen by the program that runs on it.
///
/// # Examples
/// See [`Workers`].
#[derive(Clone)]
pub struct Worker {
    index: usize,
    cpu: Option<usize>,
    set: Arc<WorkerSet>,
}

impl Worker {
    /// Returns the worker's number, from zero.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the number of workers.
    pub fn count(&self) -> usize {
        self.handles().len()
    }

    /// Returns the number of the processor that it is pinned to, if it is.
    pub fn cpu(&self) -> Option<usize> {
        self.cpu
    }

    /// Returns handles of all workers' contexts, by number; [`Handle::spawn`] starts a task on one.
    pub fn handles(&self) -> &[Handle] {
        self.set.handles.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the queue of jobs that all workers share.
    ///
    /// # Panics
    /// If there is none: see [`share_jobs`](WorkersBuilder::share_jobs).
    #[track_caller]
    pub fn jobs(&self) -> &Jobs {
        self.set.jobs.as_ref().expect("these workers share no jobs: call `share_jobs`")
    }

    /// Waits until a stop is requested.
    pub async fn stopping(&self) {
        let stopping = |phase: &Phase| *phase >= Phase::Stopping;
        // No error: `self` keeps the sender.
        let _ = self.set.phase.subscribe().wait_for(stopping).await;
    }

    /// Returns a receiver of the current [`Phase`] and its changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.set.phase.subscribe()
    }

    /// Stops all workers, as [`Workers::stop`] does.
    pub fn stop_all(&self) {
        self.set.advance(Phase::Stopping);
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
                let service = self.set.jobs.as_ref().map(JobService::start);
                let result = self.run_program(program).await;
                let panicked = result.as_ref().is_err_and(JoinError::is_panic);
                let running = self.set.phase.subscribe().get() == Phase::Running;
                let again = panicked && running && restarts > 0;
                if !again {
                    if panicked && on_panic != OnPanic::Ignore {
                        self.stop_all();
                    }
                    drop(registration.take());
                    if let Some(service) = service {
                        race(service.finish(), self.aborted()).await;
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

    /// Runs the program in a task of its own, which catches a panic; a panic in `program` itself
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

    /// Waits until the workers are aborted.
    async fn aborted(&self) {
        // No error: `self` keeps the sender.
        let _ = self.phase().wait_for(|&phase| phase == Phase::Forced).await;
    }
}

/// The task of a worker that takes jobs from the shared queue.
struct JobService {
    task: JoinHandle<()>,
    stop: local::oneshot::Sender<()>,
}

impl JobService {
    fn start(jobs: &Jobs) -> Self {
        let (stop, stopped) = local::oneshot::channel();
        let jobs = jobs.clone();
        JobService { task: spawn(async move { jobs.serve_until(stopped).await }), stop }
    }

    /// Takes no more jobs, and waits for those that it has started.
    async fn finish(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("index", &self.index).field("cpu", &self.cpu).finish()
    }
}

/// Threads with an [`IoContext`] each, all running the same program: by default one thread per
/// processor. They share only what the program shares.
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
///     // A task on the other worker:
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
    set: Arc<WorkerSet>,
    threads: Vec<thread::JoinHandle<Option<Result<T, JoinError>>>>,
}

impl Workers<()> {
    /// Returns a builder with the defaults: one worker per processor.
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
    /// Returns handles of all workers' contexts, by number.
    pub fn handles(&self) -> &[Handle] {
        self.set.handles.get().map_or(&[], Vec::as_slice)
    }

    /// Requests a stop, and returns at once: [`Worker::stopping`] completes. It does not interrupt
    /// a program that does not wait for that.
    pub fn stop(&self) {
        self.set.advance(Phase::Stopping);
    }

    /// Requests a stop without delay, and returns at once: [`Worker::phase`] becomes
    /// [`Phase::Forced`].
    pub fn abort(&self) {
        self.set.advance(Phase::Forced);
    }

    /// Returns a handle that stops the workers from anywhere, such as a task that waits for
    /// signals.
    pub fn stopper(&self) -> StopHandle {
        StopHandle(self.set.clone())
    }

    /// Returns how many workers' programs have not ended.
    pub fn remaining(&self) -> usize {
        self.set.remaining.load(Ordering::Relaxed)
    }

    /// Waits until every worker's program has ended, and returns their results, or their panics, by
    /// number. It does not request a stop.
    pub fn join(mut self) -> Vec<Result<T, JoinError>> {
        self.join_all()
    }

    fn join_all(&mut self) -> Vec<Result<T, JoinError>> {
        let ended = self.threads.drain(..).map(|thread| match thread.join() {
            Ok(Some(result)) => result,
            Ok(None) => Err(JoinError::cancelled()),
            // The program's panics have been caught: this is one of the loop.
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
        let (count, remaining) = (self.threads.len(), self.remaining());
        f.debug_struct("Workers").field("count", &count).field("remaining", &remaining).finish()
    }
}

/// Stops [`Workers`] or a [`Server`](super::Server) from any thread; cheap to clone.
///
/// # Examples
/// ```
/// use corio::server::Workers;
/// let workers = Workers::builder().count(1).start(|worker| async move {
///     worker.stopping().await;
/// })?;
/// let stopper = workers.stopper();
/// std::thread::spawn(move || stopper.stop());
/// workers.join();
/// # Ok::<(), corio::server::StartError>(())
/// ```
#[doc(alias = "CancellationToken")]
#[derive(Clone)]
pub struct StopHandle(Arc<WorkerSet>);

impl StopHandle {
    /// Requests a stop, as [`Workers::stop`] does.
    pub fn stop(&self) {
        self.0.advance(Phase::Stopping);
    }

    /// Requests a stop without delay, as [`Workers::abort`] does.
    pub fn abort(&self) {
        self.0.advance(Phase::Forced);
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").finish_non_exhaustive()
    }
}
