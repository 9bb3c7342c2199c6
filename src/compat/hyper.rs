//! [hyper 1](https://docs.rs/hyper) on corio: connections, tasks and timers.
//!
//! hyper drops a handler's future when its client leaves: a handler that awaits operations of corio
//! is wrapped in [`droppable`](crate::droppable()).
//!
//! # Examples
//! A server that says hello, by HTTP/1 and HTTP/2, on all cores:
//! ```no_run
//! use std::convert::Infallible;
//! use corio::{compat::hyper::serve, server::Server};
//! use hyper::{Request, Response, body::Incoming, service::service_fn};
//!
//! async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
//!     Ok(Response::new("Hello, World!".into()))
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = serve(Server::builder().listen("127.0.0.1:8080"), |_| service_fn(hello))?;
//!     println!("serving on {}", server.addresses()[0]);
//!     server.join();
//!     Ok(())
//! }
//! ```
//!
//! One connection, by hand:
//! ```
//! # use std::convert::Infallible;
//! use corio::compat::hyper::{Io, Timer};
//! use corio::net::Stream;
//! use hyper::server::conn::http1;
//! # use hyper::{Request, Response, body::Incoming, service::service_fn};
//!
//! # async fn hello(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
//! #     Ok(Response::new("Hello, World!".into()))
//! # }
//! async fn serve(stream: Stream) -> Result<(), hyper::Error> {
//!     http1::Builder::new()
//!         .timer(Timer::new())
//!         .serve_connection(Io::new(stream), service_fn(hello))
//!         .await
//! }
//! ```

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use super::Io;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Sleep, Write};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::server::conn::auto;

use super::Local;
use crate::context::Handle;
use crate::net::Stream;
use crate::server::{ConnectionContext, ServeError, Server, ServerBuilder};
use crate::task::RemoteTask;
use crate::time::{AsyncSleep, sleep_until};

/// For how long a client may take to send a request's head, and to answer a ping of HTTP/2.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a server whose connections speak HTTP/1 and HTTP/2, told apart by their first bytes.
/// `make_service` is called for each connection, on its worker.
///
/// A client that has not sent a request's head within 30 s, or does not answer a ping of HTTP/2 in
/// that time, is disconnected. When the server is [stopped](Server::stop), each connection ends
/// after the requests that it has begun.
///
/// hyper drops the service's future when the client leaves: one that awaits operations of corio is
/// wrapped in [`droppable`](crate::droppable()).
///
/// # Errors
/// As for [`ServerBuilder::start`].
///
/// # Examples
/// See the [module](self).
pub fn serve<M, S, B>(server: ServerBuilder, make_service: M) -> Result<Server, ServeError>
where
    M: Fn(&ConnectionContext<()>) -> S + Clone + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + 'static,
    S::Future: 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    server.start(
        |_| (),
        move |stream, context| {
            let service = make_service(&context);
            serve_connection(stream, service, context)
        },
    )
}

async fn serve_connection<S, B>(
    stream: Stream,
    service: S,
    context: ConnectionContext<()>,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(Executor::new());
    builder.http1().timer(Timer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(Timer::new()).keep_alive_interval(PATIENCE).keep_alive_timeout(PATIENCE);
    let mut connection = pin!(builder.serve_connection(Io::new(stream), service));
    let mut stopping = pin!(context.stopping());
    let mut is_stopping = false;
    let result = poll_fn(|cx| {
        if !is_stopping && stopping.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    result.await.map_err(io::Error::other)
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_copy(cx, buf.remaining(), |bytes| buf.put_slice(bytes)).map_ok(drop)
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sender().poll_write(cx, &[IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sender().poll_write(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender().poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender().poll_close(cx)
    }
}

/// Starts hyper's tasks on the running context.
///
/// # Examples
/// See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Executor(());

impl Executor {
    /// Makes an executor.
    pub fn new() -> Self {
        Executor(())
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        drop(crate::spawn(future));
    }
}

/// hyper's timer: sleeps by the timers of the context that polls them.
///
/// A sleep may be reset, polled and dropped on any thread. Where no context runs it wakes by the
/// context in which the timer was made, by a task of it; once that context is gone, such a sleep
/// never ends.
///
/// # Examples
/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Timer {
    home: Handle,
}

impl Timer {
    /// Makes a timer of the running context.
    ///
    /// # Panics
    /// If no context is running on this thread.
    #[allow(clippy::new_without_default)] // It may panic.
    #[track_caller]
    pub fn new() -> Self {
        Timer { home: crate::handle() }
    }
}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let now = Instant::now();
        // A time that no clock reaches is a century from now.
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        self.sleep_until(now.checked_add(duration).unwrap_or_else(|| now + century))
    }
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TimerSleep { deadline, home: self.home.clone(), state: State::New })
    }
    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<TimerSleep>() {
            Some(mut sleep) => sleep.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// A sleep of hyper's.
struct TimerSleep {
    deadline: Instant,
    home: Handle,
    state: State,
}

enum State {
    New,
    /// By the timers of a context.
    Here(Local<Pin<Box<AsyncSleep>>>),
    /// By a task of the timer's context.
    Elsewhere(RemoteTask<()>),
    /// That context is gone.
    Lost,
}

impl TimerSleep {
    fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        match &mut self.state {
            State::Here(sleep) if sleep.is_at_home() => sleep.set(sleep_until(deadline)),
            _ => self.stop(),
        }
    }

    /// Forgets what was begun.
    fn stop(&mut self) {
        if let State::Elsewhere(task) = std::mem::replace(&mut self.state, State::New) {
            task.cancel();
        }
    }

    /// Makes sure that what was begun wakes tasks of this thread.
    fn begin(&mut self) {
        let has_context = crate::try_handle().is_some();
        let fits = match &self.state {
            State::New => false,
            State::Here(sleep) => sleep.is_at_home() && has_context,
            State::Elsewhere(_) | State::Lost => !has_context,
        };
        if fits {
            return;
        }
        self.stop();
        let deadline = self.deadline;
        self.state = match has_context {
            true => State::Here(Local::new(Box::pin(sleep_until(deadline)))),
            false => State::Elsewhere(self.home.spawn(move || sleep_until(deadline))),
        };
    }
}

impl Sleep for TimerSleep {}

impl Future for TimerSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.begin();
        match &mut self.state {
            State::New | State::Lost => Poll::Pending,
            State::Here(sleep) => sleep.as_mut().poll(cx),
            State::Elsewhere(task) => match std::task::ready!(Pin::new(task).poll(cx)) {
                Ok(()) => Poll::Ready(()),
                Err(_) => {
                    self.state = State::Lost;
                    Poll::Pending
                }
            },
        }
    }
}

impl Drop for TimerSleep {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for TimerSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerSleep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
