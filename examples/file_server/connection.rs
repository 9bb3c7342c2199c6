//! One connection: receives requests and sends responses until one side closes.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corio::net::{SocketAddress, Stream};
use corio::op::is_cancelled;
use corio::server::ConnectionContext;
use corio::{RaceOutput, race};

use super::Server;
use super::exchange::{Answer, Exchange};
use super::input::Input;
use super::output::Output;
use super::paths::UrlPath;
use super::request::{Headers, MAX_HEADERS, Request};
use super::response::{Persistence, Status};

/// How long a connection that is being closed may take to read its last response.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are received and discarded meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// Serves a connection to its end. An error ends this connection only.
pub(crate) async fn serve(server: Rc<Server>, stream: Stream, ctx: &ConnectionContext<Rc<Server>>) {
    let mut output = Output::new(&stream, server.options.write_timeout);
    let mut input = Input::new(&stream);
    let under_way = UnderWay { yes: Cell::new(false), cut: &server.cut };
    let result = exchanges(&server, ctx, &mut input, &mut output, &under_way).await;
    match &result {
        Err(error) if is_cancelled(error) => {}
        _ => under_way.yes.set(false),
    }
    match result {
        Ok(()) => linger(&stream, input).await,
        // The peer does not read: a reset frees the unsent data in the kernel.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let _ = stream.options().set_linger(Some(Duration::ZERO));
        }
        // The peer is gone, or the file became shorter than the head has said: the only way out is
        // to close.
        Err(_) => {}
    }
}

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

/// Refuses a connection over the limit with a 503, and closes it.
pub(crate) async fn refuse(server: Rc<Server>, stream: Stream, peer: SocketAddress) {
    let mut output = Output::new(&stream, LINGER);
    let answer = Answer::last(&server, &mut output, Status::UNAVAILABLE, false);
    server.log(&peer, "-", &answer);
    if output.flush().await.is_ok() {
        linger(&stream, Input::new(&stream)).await;
    }
}

/// Answers requests until the connection is to be closed.
///
/// While it waits for a request it holds no buffers: what answers is a future of its own, on the
/// heap until there is nothing left to answer.
async fn exchanges(
    server: &Server,
    ctx: &ConnectionContext<Rc<Server>>,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
    under_way: &UnderWay<'_>,
) -> io::Result<()> {
    let (mut first, mut head_started) = (true, None);
    let status = loop {
        if !input.bytes().is_empty() {
            under_way.yes.set(true);
            match Box::pin(answer_received(server, ctx, input, output)).await? {
                Answered::None => {}
                Answered::Some => (first, head_started) = (false, None),
                Answered::Last => return output.flush().await,
                Answered::Invalid(status) => break status,
            }
            output.release();
        }
        under_way.yes.set(!input.bytes().is_empty());
        match more(ctx, input, first, &mut head_started).await? {
            More::Came => {}
            More::Ended => return Ok(()),
            More::TooSlow => break Status::REQUEST_TIMEOUT,
        }
    };
    // Empty lines may come before a request.
    let line = input.bytes().iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let is_head = line.is_some_and(|at| input.bytes()[at..].starts_with(b"HEAD "));
    let answer = Answer::last(server, output, status, is_head);
    server.log(ctx.peer(), "-", &answer);
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
    /// All before one that can't be parsed.
    Invalid(Status),
}

/// Answers the requests that have been received as a whole.
async fn answer_received(
    server: &Server,
    ctx: &ConnectionContext<Rc<Server>>,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
) -> io::Result<Answered> {
    let mut path = UrlPath::new();
    let mut answered = Answered::None;
    loop {
        let mut headers: Headers<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        match Request::parse(input.bytes(), &mut headers, server.head_limits()) {
            Ok(Some(request)) => {
                let after = match ctx.is_stopping() {
                    true => Persistence::Close,
                    false => persistence(&request),
                };
                let mut exchange = Exchange { server, request: &request, output, after };
                let answer = exchange.answer(&mut path).await?;
                server.log(ctx.peer(), request.target, &answer);
                output.settle().await?;
                let len = request.len;
                input.consume(len);
                if after == Persistence::Close {
                    return Ok(Answered::Last);
                }
                answered = Answered::Some;
            }
            Ok(None) => {
                output.flush().await?;
                return Ok(answered);
            }
            Err(status) => return Ok(Answered::Invalid(status)),
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

enum More {
    Came,
    /// The peer has ended its side, or was idle for too long.
    Ended,
    /// A head was not complete within its time limit.
    TooSlow,
}

/// Waits for more input. A head has one deadline, from its first byte on.
async fn more(
    ctx: &ConnectionContext<Rc<Server>>,
    input: &mut Input<'_>,
    first: bool,
    started: &mut Option<Instant>,
) -> io::Result<More> {
    let options = &ctx.state().options;
    let begun = !input.bytes().is_empty();
    let limit = if begun {
        options.header_timeout.saturating_sub(started.get_or_insert_with(Instant::now).elapsed())
    } else {
        options.idle_timeout
    };
    let filled = if begun || first {
        input.fill(limit).await
    } else {
        // Between requests there is nothing to finish. (The first request is answered in any case.)
        match race(input.fill(limit), ctx.stopping()).await {
            RaceOutput::First(filled, _) | RaceOutput::Second(Some(filled @ Ok(_)), ()) => filled,
            RaceOutput::Second(..) => return Ok(More::Ended),
        }
    };
    match filled {
        Ok(0) => Ok(More::Ended),
        Ok(_) => Ok(More::Came),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Ok(if begun { More::TooSlow } else { More::Ended })
        }
        Err(error) => Err(error),
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
        match input.fill(deadline.saturating_duration_since(Instant::now())).await {
            Ok(0) | Err(_) => break,
            Ok(len) => discarded += len,
        }
    }
}
