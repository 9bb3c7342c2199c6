//! Fetches from many HTTP servers at the same time, and reports each response as it arrives.
//!
//! One task per address, all on one thread. Plain HTTP only; redirects are not followed, as this
//! tool reports what each address itself answers.

#[path = "common/durations.rs"]
mod durations;

use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Parser;
use corio::IoContext;
use corio::buf::IoBuf;
use corio::net::TcpStream;
use httparse::{Response, Status};

/// Fetches from many HTTP servers at the same time, and prints a line for each as it is done
///
/// Any HTTP response counts as success, whatever its status code. The exit status is 1 if an
/// address gave no response.
#[derive(Parser)]
struct Args {
    /// Addresses to fetch: host[:port][/path], with or without http:// in front
    #[arg(required = true, value_name = "ADDR")]
    targets: Vec<Target>,
    /// Time limit for each address, such as 0.5, or `never`
    #[arg(long, value_name = "SECONDS", default_value = "10", allow_negative_numbers = true,
          value_parser = durations::limit)]
    timeout: Duration,
    /// Longest body to accept; a longer one is an error
    #[arg(long, value_name = "BYTES", default_value = "1073741824")]
    limit: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("fetch_many: {failed} failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fetch_many: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of addresses that failed.
fn run(args: Args) -> Result<usize, corio::SetupError> {
    let Args { targets, timeout, limit } = args;
    let mut context = IoContext::new(256)?;
    let tasks: Vec<_> = targets
        .into_iter()
        .map(|target| {
            context.spawn(async move {
                let start = Instant::now();
                let outcome = fetch_within(timeout, &target, limit).await;
                report(&target, &outcome, start.elapsed());
                outcome.is_err()
            })
        })
        .collect();
    let failed = context.block_on(corio::join_all(tasks));
    Ok(failed.into_iter().filter(|failed| *failed.as_ref().unwrap_or(&true)).count())
}

fn report(target: &Target, outcome: &io::Result<Fetched>, took: Duration) {
    let name = &target.text;
    let line = match outcome {
        Ok(Fetched { status, bytes }) => format!("{name}  {status}  {bytes} bytes  {took:.1?}\n"),
        Err(error) => format!("{name}  error: {error}\n"),
    };
    // The reader of a pipe may be gone; the other fetches go on.
    let _ = io::stdout().write_all(line.as_bytes());
}

struct Fetched {
    status: u16,
    bytes: u64,
}

async fn fetch_within(limit: Duration, target: &Target, body_limit: u64) -> io::Result<Fetched> {
    // At the time limit, what is in flight inside ends with `TimedOut`.
    match corio::timeout(limit, fetch(target, body_limit)).await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Err(error),
        Ok(Ok(fetched)) => Ok(fetched),
        _ => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

async fn fetch(target: &Target, limit: u64) -> io::Result<Fetched> {
    let stream = TcpStream::connect((&*target.host, target.port)).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: corio-fetch-many\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.send_all(request).await.0?;

    let mut input = Input { stream, bytes: Vec::new() };
    let mut interim = 0;
    let head = loop {
        let head = read_head(&mut input).await?;
        match head.status {
            101 => return Err(invalid("status 101: no other protocol was asked for")),
            // After such a response the final one follows.
            100..200 if interim < MAX_INTERIM => interim += 1,
            100..200 => return Err(invalid("too many responses with status 1xx")),
            _ => break head,
        }
    };
    let bytes = read_body(&mut input, head.body, limit).await?;
    Ok(Fetched { status: head.status, bytes })
}

/// A connection, and the received bytes that are not parsed yet.
struct Input {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Input {
    /// Receives more bytes; returns `false` at end of stream.
    async fn more(&mut self) -> io::Result<bool> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.reserve(16 * 1024);
        let end = bytes.len();
        let (result, bytes) = self.stream.recv(bytes.slice(end..)).await;
        self.bytes = bytes.into_inner();
        Ok(result? > 0)
    }

    /// Receives more bytes; end of stream is an error.
    async fn must_have_more(&mut self) -> io::Result<()> {
        if self.more().await? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the response ended too early"))
    }

    /// Discards up to `limit` received bytes; returns their number.
    fn discard(&mut self, limit: u64) -> u64 {
        let len = self.bytes.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        self.bytes.drain(..len);
        len as u64
    }
}

/// The parts of a response's head that are used.
struct Head {
    status: u16,
    body: Body,
}

/// How a body's length is determined.
enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// Largest number of 1xx responses before the final one.
const MAX_INTERIM: usize = 16;

async fn read_head(input: &mut Input) -> io::Result<Head> {
    loop {
        if let Some((head, len)) = parse_head(&input.bytes)? {
            input.discard(len as u64);
            return Ok(head);
        }
        if input.bytes.len() > MAX_HEAD {
            return Err(invalid("the response's head is too long"));
        }
        input.must_have_more().await?;
    }
}

/// Parses a head; returns it and its length, or `None` if it is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let Status::Complete(len) = response.parse(bytes).map_err(not_http)? else {
        return Ok(None);
    };
    let status = response.code.ok_or_else(|| invalid("the response has no status"))?;
    let body = match status {
        100..200 | 204 | 304 => Body::Length(0),
        _ => body_of(response.version, response.headers)?,
    };
    Ok(Some((Head { status, body }, len)))
}

/// Determines a body's length by RFC 9112, section 6.3. What breaks the rules there is an error.
fn body_of(version: Option<u8>, headers: &[httparse::Header<'_>]) -> io::Result<Body> {
    // A field that occurs several times means the same as its values with commas between them.
    let values = |name: &'static str| {
        let fields = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        fields.flat_map(|field| field.value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    };
    let mut lengths = values("content-length");
    let mut encodings = values("transfer-encoding");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(Body::UntilClose),
        (None, Some(first)) => {
            let length = length_of(first)?;
            for other in lengths {
                if length_of(other)? != length {
                    return Err(invalid("several different Content-Length"));
                }
            }
            Ok(Body::Length(length))
        }
        (Some(_), Some(_)) => Err(invalid("both Transfer-Encoding and Content-Length")),
        (Some(_), None) if version == Some(0) => Err(invalid("Transfer-Encoding in HTTP/1.0")),
        (Some(encoding), None) if !encoding.eq_ignore_ascii_case(b"chunked") => {
            let encoding = String::from_utf8_lossy(encoding);
            Err(invalid(&format!("unknown Transfer-Encoding {encoding:?}")))
        }
        (Some(_), None) if encodings.next().is_some() => {
            Err(invalid("several Transfer-Encoding; only chunked was expected"))
        }
        (Some(_), None) => Ok(Body::Chunked),
    }
}

fn length_of(value: &[u8]) -> io::Result<u64> {
    number(value).ok_or_else(|| {
        let value = String::from_utf8_lossy(value);
        invalid(&format!("Content-Length {value:?} is not a number"))
    })
}

/// Parses a decimal number; unlike `str::parse`, without a sign.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Receives the body; returns its length.
async fn read_body(input: &mut Input, body: Body, limit: u64) -> io::Result<u64> {
    match body {
        Body::Length(len) => {
            check_limit(len, limit)?;
            skip(input, len).await?;
            Ok(len)
        }
        Body::Chunked => read_chunks(input, limit).await,
        Body::UntilClose => {
            let mut total = 0;
            loop {
                total += input.discard(u64::MAX);
                check_limit(total, limit)?;
                if !input.more().await? {
                    return Ok(total);
                }
            }
        }
    }
}

/// Receives chunks up to the last, empty one, and the trailers after it, which are ignored.
async fn read_chunks(input: &mut Input, limit: u64) -> io::Result<u64> {
    let mut total: u64 = 0;
    loop {
        match httparse::parse_chunk_size(&input.bytes) {
            Ok(Status::Complete((line, 0))) => {
                input.discard(line as u64);
                skip_trailers(input).await?;
                return Ok(total);
            }
            Ok(Status::Complete((line, len))) => {
                input.discard(line as u64);
                total = total.saturating_add(len);
                check_limit(total, limit)?;
                skip(input, len).await?;
                while input.bytes.len() < 2 {
                    input.must_have_more().await?;
                }
                if !input.bytes.starts_with(b"\r\n") {
                    return Err(invalid("a chunk is longer than its size"));
                }
                input.discard(2);
            }
            Ok(Status::Partial) if input.bytes.len() > MAX_HEAD => {
                return Err(invalid("the line of a chunk's size is too long"));
            }
            Ok(Status::Partial) => input.must_have_more().await?,
            Err(_) => return Err(invalid("a chunk's size is not a number")),
        }
    }
}

/// Receives trailers and the empty line after them.
async fn skip_trailers(input: &mut Input) -> io::Result<()> {
    loop {
        let mut trailers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(&input.bytes, &mut trailers).map_err(not_http)? {
            Status::Complete((len, _)) => {
                input.discard(len as u64);
                return Ok(());
            }
            Status::Partial if input.bytes.len() > MAX_HEAD => {
                return Err(invalid("the response's trailers are too long"));
            }
            Status::Partial => input.must_have_more().await?,
        }
    }
}

async fn skip(input: &mut Input, mut len: u64) -> io::Result<()> {
    loop {
        len -= input.discard(len);
        if len == 0 {
            return Ok(());
        }
        input.must_have_more().await?;
    }
}

fn check_limit(len: u64, limit: u64) -> io::Result<()> {
    if len <= limit {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the body is longer than the limit of {limit} bytes"),
    ))
}

fn not_http(error: httparse::Error) -> io::Error {
    invalid(&format!("the answer is not HTTP: {error}"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// One address to fetch from.
#[derive(Clone, Debug)]
struct Target {
    /// As given on the command line.
    text: String,
    /// Value of the `Host` header.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it contains spaces or characters that are not ASCII".into());
        }
        let scheme = text.split("://").next().filter(|scheme| {
            scheme.len() < text.len() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let address = match scheme {
            None => text,
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => &text["http://".len()..],
            Some(scheme) => return Err(format!("only http is supported, not {scheme}")),
        };
        // The fragment is not sent to the server.
        let address = address.split('#').next().unwrap_or_default();
        let (authority, path) = match address.find(['/', '?']) {
            Some(at) => address.split_at(at),
            None => (address, "/"),
        };
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
        let (host, port) = split_port(authority)?;
        // As in RFC 3986, without the needless colon before an empty port.
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let (text, authority, host) = (text.into(), authority.into(), host.into());
        Ok(Target { text, authority, host, port, path })
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`. An empty port means the default.
fn split_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the closing bracket is missing")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("{host:?} is not an IPv6 address"));
            }
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            // "reg-name" of RFC 3986, section 3.2.2.
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            if host.is_empty() || !host.bytes().all(allowed) {
                return Err("the host is missing or malformed".into());
            }
            (host, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, 80)),
        Some("") => Ok((host, 80)),
        Some(port) => match number(port.as_bytes()) {
            Some(0) | None => Err(format!("{port:?} is not a port number")),
            Some(port) => Ok((host, port)),
        },
        None => Err("only a port may follow the bracket".into()),
    }
}
