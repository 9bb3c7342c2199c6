//! One connection: receives requests and sends responses until one side closes.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use corio::net::Stream;
use corio::op::is_cancelled;
use corio::server::ConnectionContext;

use super::exchange::{Answer, Exchange};
use super::input::Input;
use super::output::Output;
use super::paths::UrlPath;
use super::request::{Headers, MAX_HEADERS, Request};
use super::response::{Persistence, Status};
use super::{Counted, Server};

/// How many connections may be refused with a 503 at the same time; further ones are just closed.
const REFUSALS: usize = 64;

/// How long a connection that is being closed may take to read its last response.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are received and discarded meanwhile.
const LINGER_BYTES: usize = 1 << 20;

type Context = ConnectionContext<Rc<Server>>;

/// Serves a connection to its end, or refuses it. An error ends this connection only.
///
/// While it waits for a request it holds no buffers, and this future is small: what answers,
/// refuses and closes are futures of their own, on the heap as long as they last.
// Not an `async fn`, which would have room for its arguments twice.
#[allow(clippy::manual_async_fn)]
pub(crate) fn serve(stream: Stream, ctx: Context) -> impl Future<Output = io::Result<()>> {
    async move {
        let (counted, count) = Counted::new(ctx.state());
        let max = ctx.state().options.max_connections;
        if count >= max {
            // Beyond that it is closed without a response, as even a refusal costs something.
            if count < max.saturating_add(REFUSALS) {
                Box::pin(refuse(&stream, &ctx)).await;
            }
            return Ok(());
        }
        let mut input = Input::new(&stream);
        let under_way = UnderWay { yes: Cell::new(false), cut: &ctx.state().cut };
        let (mut first, mut head_started) = (true, None);
        let result = loop {
            if !input.bytes().is_empty() {
                under_way.yes.set(true);
                match Box::pin(answer_received(&stream, &ctx, &mut input)).await {
                    Ok(Answered::None) => {}
                    Ok(Answered::Some) => (first, head_started) = (false, None),
                    Ok(Answered::Last) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
            under_way.yes.set(!input.bytes().is_empty());
            let limit = limit(&ctx, &input, &mut head_started);
            // Between requests there is nothing to finish. (The first request is answered in any
            // case.)
            let may_stop = !first && input.bytes().is_empty();
            let received = {
                let mut more = pin!(input.receive(limit));
                poll_fn(|cx| match more.as_mut().poll(cx) {
                    Poll::Ready(received) => Poll::Ready(Some(received)),
                    // The receive is dropped; bytes that come now are received by `linger`.
                    Poll::Pending if may_stop && ctx.is_stopping() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                })
                .await
            };
            match received {
                Some(Ok(Some(bytes))) => input.add(bytes),
                // The peer has ended its side.
                None | Some(Ok(None)) => break Ok(()),
                Some(Err(error)) if error.kind() != io::ErrorKind::TimedOut => break Err(error),
                // It was idle for too long.
                Some(Err(_)) if input.bytes().is_empty() => break Ok(()),
                Some(Err(_)) => {
                    let status = Status::REQUEST_TIMEOUT;
                    let output = Output::of(&stream, &ctx);
                    break Box::pin(reject(output, &ctx, &input, status)).await;
                }
            }
        };
        if !matches!(&result, Err(error) if is_cancelled(error)) {
            under_way.yes.set(false);
        }
        Box::pin(end(&stream, input, result)).await;
        drop(counted);
        ctx.state().bursts.ended(ctx.state().connections.load(Ordering::Relaxed));
        Ok(())
    }
}

const _: () = {
    /// Returns the size of what is there for each connection, besides what the server adds to it.
    const fn size_of_future<F>(_: fn(Stream, Context) -> F) -> usize {
        size_of::<F>()
    }
    assert!(size_of_future(serve) <= 560, "an idle connection takes more memory than it did");
};

/// Whether a request is being received or answered. Counts it as cut if the connection is dropped
/// meanwhile, as at the end of the grace period.
struct UnderWay<'a> {
    yes: Cell<bool>,
    cut: &'a AtomicU64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.yes.get() {
            self.cut.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns how long to wait for more input. A head has one deadline, from its first byte on.
///
/// The time is boxed, as few heads come in parts.
fn limit(ctx: &Context, input: &Input<'_>, head_started: &mut Option<Box<Instant>>) -> Duration {
    let options = &ctx.state().options;
    if input.bytes().is_empty() {
        return options.idle_timeout;
    }
    let elapsed = head_started.get_or_insert_with(|| Instant::now().into()).elapsed();
    options.header_timeout.saturating_sub(elapsed)
}

/// Refuses a connection over the limit with a 503, and closes it.
pub(crate) async fn refuse(stream: &Stream, ctx: &Context) {
    let mut output = Output::new(stream, LINGER);
    let answer = Answer::last(ctx.state(), &mut output, Status::UNAVAILABLE, false);
    ctx.state().log(ctx, "-", &answer);
    if output.flush().await.is_ok() {
        linger(stream, Input::new(stream)).await;
    }
}

/// Sends the last response, to a request that can't be parsed or did not come as a whole.
async fn reject(
    mut output: Output<'_>,
    ctx: &Context,
    input: &Input<'_>,
    status: Status,
) -> io::Result<()> {
    // Empty lines may come before a request.
    let line = input.bytes().iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let is_head = line.is_some_and(|at| input.bytes()[at..].starts_with(b"HEAD "));
    let answer = Answer::last(ctx.state(), &mut output, status, is_head);
    ctx.state().log(ctx, "-", &answer);
    output.flush().await
}

/// Which of the received requests were answered.
enum Answered {
    /// None: the first one is incomplete.
    None,
    /// All that are complete.
    Some,
    /// One after which the connection is closed.
    Last,
}

/// Answers the requests that have been received as a whole.
async fn answer_received(
    stream: &Stream,
    ctx: &Context,
    input: &mut Input<'_>,
) -> io::Result<Answered> {
    let server = &**ctx.state();
    let mut output = Output::of(stream, ctx);
    let mut path = UrlPath::new();
    let mut answered = Answered::None;
    loop {
        let mut headers: Headers<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        match Request::parse(input.bytes(), &mut headers, server.head_limits()) {
            Ok(Some(request)) => {
                let after = match ctx.is_stopping() || server.is_full() {
                    true => Persistence::Close,
                    false => persistence(&request),
                };
                let output = &mut output;
                let mut exchange = Exchange { server, request: &request, output, after };
                let answer = exchange.answer(&mut path).await?;
                server.log(ctx, request.target, &answer);
                output.settle().await?;
                let len = request.len;
                input.consume(len);
                if after == Persistence::Close {
                    output.flush().await?;
                    return Ok(Answered::Last);
                }
                answered = Answered::Some;
            }
            Ok(None) => {
                output.flush().await?;
                return Ok(answered);
            }
            Err(status) => {
                reject(output, ctx, input, status).await?;
                return Ok(Answered::Last);
            }
        }
    }
}

fn persistence(request: &Request<'_>) -> Persistence {
    match (request.keep_alive, request.version) {
        (false, _) => Persistence::Close,
        (true, 0) => Persistence::KeepAliveTold,
        (true, _) => Persistence::KeepAlive,
    }
}

/// Closes a connection that has ended with `result`.
async fn end(stream: &Stream, input: Input<'_>, result: io::Result<()>) {
    match result {
        Ok(()) => linger(stream, input).await,
        // The peer does not read: a reset frees the unsent data in the kernel.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let _ = stream.options().set_linger(Some(Duration::ZERO));
        }
        // The peer is gone, or the file became shorter than the head has said: the only way out is
        // to close.
        Err(_) => {}
    }
}

/// Closes so that the peer can read the last response: a close with unread input would reset the
/// connection, and the peer's kernel would discard what has arrived.
async fn linger(stream: &Stream, mut input: Input<'_>) {
    if stream.shutdown(Shutdown::Write).await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        input.clear();
        match input.receive(deadline.saturating_duration_since(Instant::now())).await {
            Ok(Some(bytes)) => discarded += bytes.len(),
            Ok(None) | Err(_) => break,
        }
    }
}
