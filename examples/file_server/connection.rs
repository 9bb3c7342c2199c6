//! One connection's life: requests come in, responses go out, until either side has had enough.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corio::net::{SocketAddress, Stream};
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

/// How much is read and thrown away meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// Serves a connection to its end. What goes wrong with it is nobody else's business.
pub(crate) async fn serve(server: Rc<Server>, stream: Stream, ctx: &ConnectionContext<Rc<Server>>) {
    let mut output = Output::new(&stream, server.options.write_timeout);
    let mut input = Input::new(&stream);
    let result = exchanges(&server, ctx, &mut input, &mut output).await;
    match result {
        Ok(()) => linger(&stream, input).await,
        // Whoever has stopped reading would leave the kernel with data that nobody fetches.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let _ = stream.options().set_linger(Some(Duration::ZERO));
        }
        // The peer has gone, or the file has become shorter than was promised: in both cases all
        // that can be done is to close.
        Err(_) => {}
    }
}

/// Tells a connection that is one too many, and closes it.
pub(crate) async fn refuse(server: Rc<Server>, stream: Stream, peer: SocketAddress) {
    let mut output = Output::new(&stream, LINGER);
    let answer = Answer::last(&server, &mut output, Status::UNAVAILABLE, false);
    server.log(&peer, "-", &answer);
    if output.flush().await.is_ok() {
        linger(&stream, Input::new(&stream)).await;
    }
}

/// Answers requests until the connection is to be closed.
async fn exchanges(
    server: &Server,
    ctx: &ConnectionContext<Rc<Server>>,
    input: &mut Input<'_>,
    output: &mut Output<'_>,
) -> io::Result<()> {
    let mut path = UrlPath::new();
    let (mut first, mut header_deadline) = (true, None);
    loop {
        let mut headers: Headers<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let status = match Request::parse(input.bytes(), &mut headers, server.head_limits()) {
            Ok(Some(request)) => {
                (first, header_deadline) = (false, None);
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
                    break;
                }
                continue;
            }
            Ok(None) => {
                output.flush().await?;
                match more(ctx, input, first, &mut header_deadline).await? {
                    More::Came => continue,
                    More::Ended => break,
                    More::TooSlow => Status::REQUEST_TIMEOUT,
                }
            }
            Err(status) => status,
        };
        let is_head = input.bytes().starts_with(b"HEAD ");
        let answer = Answer::last(server, output, status, is_head);
        server.log(ctx.peer(), "-", &answer);
        break;
    }
    output.flush().await
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
    /// The peer has ended its side, or been idle for too long.
    Ended,
    /// A head has begun and not come to its end in time.
    TooSlow,
}

/// Waits for more input. A head that has begun has one deadline for all of it.
async fn more(
    ctx: &ConnectionContext<Rc<Server>>,
    input: &mut Input<'_>,
    first: bool,
    deadline: &mut Option<Instant>,
) -> io::Result<More> {
    let options = &ctx.state().options;
    let begun = !input.bytes().is_empty();
    let limit = if begun {
        let deadline = deadline.get_or_insert_with(|| Instant::now() + options.header_timeout);
        deadline.saturating_duration_since(Instant::now())
    } else {
        options.idle_timeout
    };
    let filled = if begun || first {
        input.fill(limit).await
    } else {
        // Between requests there is nothing to finish. (Who was let in is answered once.)
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

/// Closes in a way that lets the peer read the last response: closing with unread input would
/// reset the connection, and the peer's kernel would throw away what has arrived.
async fn linger(stream: &Stream, mut input: Input<'_>) {
    if stream.shutdown(Shutdown::Write).await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut thrown_away = 0;
    while thrown_away < LINGER_BYTES {
        input.clear();
        match input.fill(deadline.saturating_duration_since(Instant::now())).await {
            Ok(0) | Err(_) => break,
            Ok(len) => thrown_away += len,
        }
    }
}
