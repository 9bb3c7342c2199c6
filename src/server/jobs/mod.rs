//! Work that any of several contexts may do: whoever is idle takes it.

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

use crate::runtime::Runtime;
use crate::sync::local::Notify;
use crate::task::{JoinError, RemoteTask, unstarted};
use crate::time::sleep;
use queue::{Queue, Refused};

/// Starts a job's task on the context that has taken it.
type Begin = Box<dyn FnOnce(&Runtime, &Rc<Running>) + Send>;

/// Holds a place among those who serve.
pub(super) type Attendance = queue::Attendance<Begin>;

/// Work that is shared between contexts: each job is done by one that has nothing else to do, if
/// there is one. Clones share the same jobs.
///
/// Connections and tasks stay on the thread where they began, so a worker whose connections ask for
/// much gets behind while others are idle. Let such a connection give the heavy part away:
/// [`run`](Self::run) queues it and waits for its result; contexts that [`serve`](Self::serve) take
/// queued jobs, oldest first, one per turn of their loop at most, so that busy ones take fewer.
/// What has begun on a thread stays there, so a job's future need not be `Send`: only the function
/// that makes it, and its output.
///
/// A job that computes holds up whoever is on its context while it does, as any task there would;
/// so make pieces of what takes long. It pays for jobs that take much longer than a wake, which is
/// some 10 to 40 µs. What blocks belongs to [`spawn_blocking`](crate::spawn_blocking()), whose threads serve
/// nothing else.
///
/// # Examples
/// [`WorkersBuilder::share_jobs`](super::WorkersBuilder::share_jobs) has every worker serve:
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
///             // On whichever worker comes to it first:
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
    queue: Arc<Queue<Begin>>,
}

/// Why a job has no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job panicked; [`JoinError::resume_panic`] goes on with it.
    #[error("the job panicked: {0}")]
    Panicked(JoinError),
    /// The context that had begun with the job has ended.
    #[error("the context that did the job has ended")]
    Cancelled,
    /// Nobody has begun with the job, and nobody will: the jobs were closed, or all who served are
    /// gone.
    #[error("nobody serves any more who would do the job")]
    Closed,
}

impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        io::Error::other(error.to_string())
    }
}

impl Jobs {
    /// Jobs of which `limit` are queued at most, at least one; those who bring more wait for room.
    pub fn new(limit: usize) -> Self {
        Jobs { queue: Queue::new(limit) }
    }

    /// Has the future that `start` makes run on a context that serves, and waits for its output;
    /// for room in the queue first, in order. On any context or executor.
    ///
    /// The job belongs to whoever awaits this. If this is dropped, or cancelled, a job that nobody
    /// has begun with never runs; one that has begun is [cancelled](crate::JoinHandle::cancel).
    ///
    /// Before anybody has served, jobs wait for the first who does.
    ///
    /// # Errors
    /// See [`JobError`].
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
            queue.room().await.map_err(closed)?;
            let (begin, task) = unstarted(start, location);
            let from = Runtime::try_with(|runtime| runtime.map(|runtime| runtime.id));
            let begin = move |runtime: &Runtime, running: &Rc<Running>| {
                let is_own = from == Some(runtime.id);
                begin(runtime, (!is_own).then(|| Begun::new(running)));
            };
            let number = queue.push(Box::new(begin)).map_err(closed)?;
            let mut job = Submitted { queue, number, task };
            match (&mut job.task).await {
                Ok(output) => Ok(output),
                Err(error) if error.is_panic() => Err(JobError::Panicked(error)),
                Err(_) if job.task.has_begun() => Err(JobError::Cancelled),
                Err(_) => Err(JobError::Closed),
            }
        }
    }

    /// Takes jobs, and starts each as a task of this context, until the jobs are
    /// [closed](Self::close); then waits for those that it has started. Run it as a task on each
    /// context that is to take part.
    ///
    /// If it is dropped, or cancelled, it takes no more; what it has started goes on.
    ///
    /// # Panics
    /// When no context is running on this thread.
    pub async fn serve(&self) {
        self.serve_until(pending::<()>()).await;
    }

    /// The same, but also until `enough` is done.
    pub(super) async fn serve_until(&self, enough: impl Future) {
        let mut enough = pin!(enough);
        let running = Rc::new(Running::default());
        let mut server = self.queue.serve();
        loop {
            let next = poll_fn(|cx| match enough.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Runtime::with(|runtime| {
                    runtime.remote.expect_wakeups();
                    server.poll_take(cx, &runtime.remote)
                }),
            });
            let Some(begin) = next.await else { break };
            Runtime::with(|runtime| begin(runtime, &running));
            // Until the next turn: whoever else has something to do comes first.
            sleep(Duration::ZERO).await;
        }
        drop(server);
        while running.count.get() > 0 {
            running.none.notified().await;
        }
    }

    /// Refuses jobs from now on, and gives up those that nobody has begun with
    /// ([`JobError::Closed`]). The others go on.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Whether jobs are refused: they were closed, or all who served are gone.
    pub fn is_closed(&self) -> bool {
        self.queue.refuses()
    }

    /// How many jobs are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Says that somebody will serve, so that nobody gives up before.
    pub(super) fn attend(&self) -> Attendance {
        self.queue.attend()
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queued, limit) = (self.queued(), self.queue.limit());
        f.debug_struct("Jobs").field("queued", &queued).field("limit", &limit).finish()
    }
}

/// A job that somebody awaits.
struct Submitted<T> {
    queue: Arc<Queue<Begin>>,
    number: u64,
    task: RemoteTask<T>,
}

impl<T> Drop for Submitted<T> {
    fn drop(&mut self) {
        if !self.task.is_finished() {
            // Whoever is taking it from the queue at this moment finds it cancelled.
            self.task.cancel();
            drop(self.queue.remove(self.number));
        }
    }
}

/// The jobs that one context has begun with for others. Its own end with those who await them.
#[derive(Default)]
pub(super) struct Running {
    count: Cell<usize>,
    none: Notify,
}

/// One of them.
struct Begun(Rc<Running>);

impl Begun {
    fn new(running: &Rc<Running>) -> Self {
        running.count.set(running.count.get() + 1);
        Begun(running.clone())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.none.notify_all();
        }
    }
}
