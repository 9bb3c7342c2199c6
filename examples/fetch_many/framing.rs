//! Where a response's head and body end, by RFC 9112. What breaks its rules is an error: a length
//! that can be read in two ways is how one response passes for another.
//!
//! Nothing here receives: the caller passes in what has arrived, in whatever pieces.

use std::io;
use std::str::FromStr;

use httparse::{Header, Response, Status};

use super::MAX_HEAD;

const MAX_HEADERS: usize = 128;

/// The parts of a response's head that are used.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
}

/// How a body's length is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Parses a head; returns it and its length, or `None` if it is incomplete.
pub(crate) fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let len = match response.parse(at_most(bytes, MAX_HEAD)).map_err(not_http)? {
        Status::Complete(len) => len,
        Status::Partial => return partial(bytes, "the response's head is too long"),
    };
    let status = response.code.ok_or_else(|| invalid("the response has no status"))?;
    let framing = match status {
        100..200 | 204 | 304 => Framing::Length(0),
        _ => framing_of(response.version, response.headers)?,
    };
    Ok(Some((Head { status, framing }, len)))
}

/// Determines a body's length by RFC 9112, section 6.3.
fn framing_of(version: Option<u8>, headers: &[Header<'_>]) -> io::Result<Framing> {
    // A field that occurs several times means the same as its values with commas between them.
    let values = |name: &'static str| {
        let fields = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        fields.flat_map(|field| field.value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    };
    let mut lengths = values("content-length");
    let mut encodings = values("transfer-encoding");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(Framing::UntilClose),
        (None, Some(first)) => {
            let length = length_of(first)?;
            for other in lengths {
                if length_of(other)? != length {
                    return Err(invalid("several different Content-Length"));
                }
            }
            Ok(Framing::Length(length))
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
        (Some(_), None) => Ok(Framing::Chunked),
    }
}

fn length_of(value: &[u8]) -> io::Result<u64> {
    number(value).ok_or_else(|| {
        let value = String::from_utf8_lossy(value);
        invalid(&format!("Content-Length {value:?} is not a number"))
    })
}

/// Parses a decimal number; unlike `str::parse`, without a sign.
pub(crate) fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A body that is being received, and discarded.
#[derive(Debug)]
pub(crate) struct Body {
    next: Part,
    /// Bytes of the body without its framing, up to and including the chunk that has begun.
    len: u64,
    limit: u64,
}

/// The part of a body that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The rest of a body of known length.
    Rest(u64),
    UntilClose,
    ChunkSize,
    /// The rest of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Nothing,
}

impl Body {
    /// A body of more than `limit` bytes is an error.
    pub(crate) fn new(framing: Framing, limit: u64) -> io::Result<Self> {
        let (next, len) = match framing {
            Framing::Length(0) => (Part::Nothing, 0),
            Framing::Length(len) => (Part::Rest(len), len),
            Framing::Chunked => (Part::ChunkSize, 0),
            Framing::UntilClose => (Part::UntilClose, 0),
        };
        let mut body = Body { next, len: 0, limit };
        body.grow(len)?;
        Ok(body)
    }

    /// Whether the whole body has been taken.
    pub(crate) fn is_complete(&self) -> bool {
        self.next == Part::Nothing
    }

    /// Bytes of a complete body.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Takes what belongs to the body from the front of the received bytes; returns its length.
    /// What is left comes again, together with more bytes, until the body is complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        while let Some(len) = self.take_part(&bytes[used..])? {
            used += len;
        }
        Ok(used)
    }

    /// Ends the body with the stream; returns its length.
    pub(crate) fn end(&self) -> io::Result<u64> {
        match self.next {
            Part::Nothing | Part::UntilClose => Ok(self.len),
            _ => Err(ended_early()),
        }
    }

    /// Takes (some of) the next part; returns `None` if that needs more bytes.
    fn take_part(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let (len, next) = match self.next {
            Part::Nothing => return Ok(None),
            Part::Rest(_) | Part::Chunk(_) | Part::UntilClose if bytes.is_empty() => {
                return Ok(None);
            }
            Part::UntilClose => {
                self.grow(bytes.len() as u64)?;
                (bytes.len(), Part::UntilClose)
            }
            Part::Rest(left) => {
                let len = at_most(bytes, left).len();
                let left = left - len as u64;
                (len, if left == 0 { Part::Nothing } else { Part::Rest(left) })
            }
            Part::Chunk(left) => {
                let len = at_most(bytes, left).len();
                let left = left - len as u64;
                (len, if left == 0 { Part::ChunkEnd } else { Part::Chunk(left) })
            }
            Part::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => (2, Part::ChunkSize),
                [] | [b'\r'] => return Ok(None),
                _ => return Err(invalid("a chunk is longer than its size")),
            },
            Part::ChunkSize => match parse_chunk_size(bytes)? {
                None => return Ok(None),
                Some((len, 0)) => (len, Part::Trailers),
                Some((len, size)) => {
                    self.grow(size)?;
                    (len, Part::Chunk(size))
                }
            },
            Part::Trailers => match trailers_len(bytes)? {
                None => return Ok(None),
                Some(len) => (len, Part::Nothing),
            },
        };
        self.next = next;
        Ok(Some(len))
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        self.len = self.len.saturating_add(len);
        if self.len <= self.limit {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the body is longer than the limit of {} bytes", self.limit),
        ))
    }
}

fn at_most(bytes: &[u8], limit: impl TryInto<usize>) -> &[u8] {
    &bytes[..bytes.len().min(limit.try_into().unwrap_or(usize::MAX))]
}

/// Parses the line of a chunk's size (RFC 9112, section 7.1); returns the length of the line and
/// the size, or `None` if the line is incomplete. Extensions are ignored, but a control character
/// in one is an error: others might take a line feed there for the line's end.
fn parse_chunk_size(bytes: &[u8]) -> io::Result<Option<(usize, u64)>> {
    let all = at_most(bytes, MAX_HEAD);
    let end = all.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t');
    let (line, end) = all.split_at(end.unwrap_or(all.len()));
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    // Zeros in front are legal, in any number.
    let size = digits.iter().try_fold(0_u64, |size, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(size.checked_mul(16)? | u64::from(digit))
    });
    let size = size.ok_or_else(|| invalid("a chunk's size is too large"))?;
    let has_number = !digits.is_empty() || all.is_empty();
    if !has_number || !matches!(rest.trim_ascii_start(), [] | [b';', ..]) {
        return Err(invalid("a chunk's size is not a number"));
    }
    match end {
        [b'\r', b'\n', ..] => Ok(Some((line.len() + 2, size))),
        [] | [b'\r'] => partial(bytes, "the line of a chunk's size is too long"),
        _ => Err(invalid("a control character in the line of a chunk's size")),
    }
}

/// Returns the length of the trailers and the empty line after them, or `None` if they are
/// incomplete.
fn trailers_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut trailers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(at_most(bytes, MAX_HEAD), &mut trailers).map_err(not_http)? {
        Status::Complete((len, _)) => Ok(Some(len)),
        Status::Partial => partial(bytes, "the response's trailers are too long"),
    }
}

/// The result for what is incomplete, unless there is too much of it.
fn partial<T>(bytes: &[u8], too_long: &str) -> io::Result<Option<T>> {
    if bytes.len() < MAX_HEAD { Ok(None) } else { Err(invalid(too_long)) }
}

fn not_http(error: httparse::Error) -> io::Error {
    invalid(&format!("the answer is not HTTP: {error}"))
}

pub(crate) fn ended_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the response ended too early")
}

pub(crate) fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
