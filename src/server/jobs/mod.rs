//! A bounded queue of jobs that several contexts share: an idle context takes the next one.

mod queue;

use std::cell::Cell;
use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::error::debug_as_display;
use crate::runtime::Runtime;
use crate::sync::local::Notify;
use crate::task::{JoinError, RemoteTask, unstarted};
use crate::time::sleep;
use queue::{Queue, Refused};

/// Starts a job's task on the context that has taken it.
type StartJob = Box<dyn FnOnce(&Runtime, &Rc<ForeignJobs>) + Send>;

/// Counts as a context that serves until dropped.
pub(super) type Registration = queue::Registration<StartJob>;

/// A bounded queue of jobs that several contexts share: an idle context takes the next one. Clones
/// share the same queue.
///
/// Connections and tasks stay on the thread where they began, so a worker whose connections ask for
/// much falls behind while others are idle. Let such a connection hand its heavy part over:
/// [`run`](Self::run) queues it and waits for its result; contexts that [`serve`](Self::serve) take
/// queued jobs, oldest first, one per turn of their loop at most, so that busy contexts take fewer.
/// A job stays on the thread where it was started, so its future need not be `Send`; only the
/// function that makes it, and its output, must be.
///
/// A job that computes holds up the other tasks of the context that runs it, as any task there
/// would; split long jobs into pieces. A job pays if it takes much longer than a wake-up, which is
/// some 10 to 40 µs. Calls that block belong to [`spawn_blocking`](crate::spawn_blocking()), whose
/// threads run nothing else.
///
/// # Examples
/// With [`WorkersBuilder::share_jobs`](super::WorkersBuilder::share_jobs) every worker serves:
/// ```
/// use corio::server::{Server, Workers};
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .workers(Workers::builder().count(2).share_jobs(1024))
///     .start(
///         |_worker| (),
///         |stream, ctx| async move {
///             let (result, request) = stream.recv(Vec::with_capacity(4096)).await;
///             result?;
///             // Runs on the first worker that takes it:
///             let jobs = ctx.worker().jobs();
///             let job = move || async move { request.into_iter().map(u64::from).sum::<u64>() };
///             let sum = jobs.run(job).await?;
///             stream.send_all(sum.to_string()).await.0
///         },
///     )?;
///
/// use std::io::{Read, Write};
/// let mut client = std::net::TcpStream::connect(server.addresses()[0].as_inet().unwrap())?;
/// client.write_all(b"ABC")?;
/// let mut sum = String::new();
/// client.read_to_string(&mut sum)?;
/// assert_eq!(sum, "198");
/// server.stop();
/// server.join();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Without workers, on contexts of your own:
/// ```
/// use corio::server::Jobs;
/// let jobs = Jobs::new(64);
/// let serves = jobs.clone();
/// let other = std::thread::spawn(move || {
///     let mut context = corio::IoContext::new(8).unwrap();
///     context.block_on(serves.serve()); // until the jobs are closed
/// });
/// let mut context = corio::IoContext::new(8)?;
/// let answer = context.block_on(jobs.run(|| async { 6 * 7 }));
/// assert_eq!(answer.unwrap(), 42);
/// jobs.close();
/// other.join().unwrap();
/// # Ok::<(), corio::SetupError>(())
/// ```
#[derive(Clone)]
pub struct Jobs {
    queue: Arc<Queue<StartJob>>,
}

/// Why a job has no output.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked; [`JoinError::resume_panic`] continues the panic.
    #[error("the job panicked: {0}")]
    Panicked(JoinError),
    /// The context that had started the job has ended, and the job with it.
    #[error("job cancelled: the context that ran it has ended")]
    Cancelled,
    /// No context had started the job, and none will: the queue was [closed](Jobs::close), or no
    /// context serves any more.
    #[error("job queue closed: the server has stopped, or no context serves the queue any more")]
    Closed,
}

debug_as_display!(JobError);

impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        io::Error::other(error.to_string())
    }
}

impl Jobs {
    /// Creates a queue with room for `limit` jobs, at least one. If it is full, [`run`](Self::run)
    /// waits for room.
    pub fn new(limit: usize) -> Self {
        Jobs { queue: Queue::new(limit) }
    }

    /// Runs the future that `start` makes on a context that serves, and waits for its output; first
    /// waits for room in the queue, in order. Works on any context or executor.
    ///
    /// The job ends with the future that `run` returns. If that is dropped, or cancelled, a job
    /// that no context has started never runs, and a job that has been started is
    /// [cancelled](crate::JoinHandle::cancel).
    ///
    /// Until a context has served for the first time, jobs wait.
    ///
    /// # Errors
    /// See [`JobError`].
    ///
    /// # Examples
    /// See [`Jobs`].
    #[track_caller]
    pub fn run<F, Fut>(
        &self,
        start: F,
    ) -> impl Future<Output = Result<Fut::Output, JobError>> + use<F, Fut>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let (queue, location) = (self.queue.clone(), Location::caller());
        async move {
            let closed = |_: Refused| JobError::Closed;
            queue.reserve().await.map_err(closed)?;
            let (begin, task) = unstarted(start, location);
            let from = Runtime::try_with(|runtime| runtime.map(|runtime| runtime.id));
            let start_job = move |runtime: &Runtime, foreign: &Rc<ForeignJobs>| {
                let is_own = from == Some(runtime.id);
                begin(runtime, (!is_own).then(|| ForeignJob::new(foreign)));
            };
            let number = queue.push(Box::new(start_job)).map_err(closed)?;
            let mut job = QueuedJob { queue, number, task };
            match (&mut job.task).await {
                Ok(output) => Ok(output),
                Err(error) if error.is_panic() => Err(JobError::Panicked(error)),
                Err(_) if job.task.has_begun() => Err(JobError::Cancelled),
                Err(_) => Err(JobError::Closed),
            }
        }
    }

    /// Takes jobs, and starts each as a task of this context, until the queue is
    /// [closed](Self::close); then waits for the jobs that it has started. Spawn it on each context
    /// that is to take part.
    ///
    /// If it is dropped, or cancelled, it takes no more; jobs that it has started go on.
    ///
    /// # Panics
    /// If no context is running on this thread.
    ///
    /// # Examples
    /// See [`Jobs`].
    pub async fn serve(&self) {
        self.serve_until(pending::<()>()).await;
    }

    /// Serves until the queue is closed or `stop` is ready.
    pub(super) async fn serve_until(&self, stop: impl Future) {
        let mut stop = pin!(stop);
        let foreign = Rc::new(ForeignJobs::default());
        let mut consumer = self.queue.consumer();
        loop {
            let next = poll_fn(|cx| match stop.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Runtime::with(|runtime| {
                    runtime.remote.expect_wakeups();
                    consumer.poll_take(cx, &runtime.remote)
                }),
            });
            let Some(start_job) = next.await else { break };
            Runtime::with(|runtime| start_job(runtime, &foreign));
            // Until the next turn of the loop, so that other tasks and idle contexts come first.
            sleep(Duration::ZERO).await;
        }
        drop(consumer);
        while foreign.count.get() > 0 {
            foreign.none_left.notified().await;
        }
    }

    /// Refuses further jobs, and drops those that no context has started: they give
    /// [`JobError::Closed`]. Jobs that have been started go on.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Returns `true` if jobs are refused: the queue was closed, or no context serves any more.
    pub fn is_closed(&self) -> bool {
        self.queue.refuses()
    }

    /// Returns how many jobs are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Counts a context that will serve, so that no job is refused before it does.
    pub(super) fn register(&self) -> Registration {
        self.queue.register()
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, limit) = (self.queued(), self.queue.limit());
        f.debug_struct("Jobs").field("queued", &queued).field("limit", &limit).finish()
    }
}

/// A job that [`Jobs::run`] waits for.
struct QueuedJob<T> {
    queue: Arc<Queue<StartJob>>,
    number: u64,
    task: RemoteTask<T>,
}

impl<T> Drop for QueuedJob<T> {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            // A context that takes it from the queue at this moment finds it cancelled.
            self.task.cancel();
            drop(self.queue.remove(self.number));
        }
    }
}

/// Counts the jobs that one context has started for other contexts. Jobs for itself are not
/// counted: they end with the task that awaits them.
#[derive(Default)]
pub(super) struct ForeignJobs {
    count: Cell<usize>,
    none_left: Notify,
}

/// One counted job.
struct ForeignJob(Rc<ForeignJobs>);

impl ForeignJob {
    fn new(jobs: &Rc<ForeignJobs>) -> Self {
        jobs.count.set(jobs.count.get() + 1);
        ForeignJob(jobs.clone())
    }
}

impl Drop for ForeignJob {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.none_left.notify_all();
        }
    }
}
