//! Parses and checks a request's head.
//!
//! This server accepts no request bodies. A request that announces one is refused and its
//! connection closed, so that a body can't be mistaken for the next request.

use std::mem::MaybeUninit;
use std::time::SystemTime;

use httparse::Header;

use super::authority;
use super::response::Status;

/// Largest number of header fields.
pub(crate) const MAX_HEADERS: usize = 96;

/// Room for a request's header fields, which borrow from its bytes.
pub(crate) type Headers<'a> = [MaybeUninit<Header<'a>>; MAX_HEADERS];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes of the request target.
    pub(crate) uri: usize,
    /// Bytes of the whole head.
    pub(crate) head: usize,
}

/// A complete head.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) target: &'a str,
    /// The minor version: HTTP/1.0 or HTTP/1.1.
    pub(crate) version: u8,
    /// Whether the client asks to keep the connection open.
    pub(crate) keep_alive: bool,
    /// Bytes of the head.
    pub(crate) len: usize,
    headers: &'a [Header<'a>],
}

impl<'a> Request<'a> {
    /// Parses the received bytes; returns `None` if the head is incomplete. An error is the status
    /// of the response, after which the connection is closed.
    pub(crate) fn parse(
        bytes: &'a [u8],
        headers: &'a mut Headers<'a>,
        limits: HeadLimits,
    ) -> Result<Option<Self>, Status> {
        let mut parsed = httparse::Request::new(&mut []);
        let len = match parsed.parse_with_uninit_headers(bytes, headers) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return partial(bytes, limits).map(|()| None),
            Err(error) => return Err(refusal(error, bytes)),
        };
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Status::BAD_REQUEST);
        };
        let mut request = Request {
            method: Method::Get,
            target,
            version,
            keep_alive: false,
            len,
            headers: parsed.headers,
        };
        if target.len() > limits.uri {
            return Err(Status::URI_TOO_LONG);
        }
        if len > limits.head {
            return Err(Status::HEADERS_TOO_LARGE);
        }
        let has_body = request.has_body()?;
        request.method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" | "TRACE" | "CONNECT" => {
                return Err(Status::METHOD_NOT_ALLOWED);
            }
            _ => return Err(Status::NOT_IMPLEMENTED),
        };
        if has_body {
            return Err(Status::CONTENT_TOO_LARGE);
        }
        if !request.has_valid_host() {
            return Err(Status::BAD_REQUEST);
        }
        request.keep_alive = request.wants_keep_alive();
        Ok(Some(request))
    }

    /// The values of all fields of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Whether there is a field of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of a field that may occur once; if it occurs more often, it is ignored.
    pub(crate) fn single(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The same, as a date; a malformed one is ignored.
    pub(crate) fn date(&self, name: &str) -> Option<SystemTime> {
        let text = std::str::from_utf8(self.single(name)?).ok()?;
        httpdate::parse_http_date(text).ok()
    }

    /// Whether there is one host; HTTP/1.0 needs none.
    fn has_valid_host(&self) -> bool {
        let mut hosts = self.all("host");
        let is_valid = match hosts.next() {
            Some(host) => authority::is_host_and_port(host),
            None => self.version == 0,
        };
        is_valid && hosts.next().is_none()
    }

    /// Whether a body follows the head. Anything that could be read in two ways is an error.
    fn has_body(&self) -> Result<bool, Status> {
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(Status::BAD_REQUEST);
        }
        if self.has("transfer-encoding") {
            return if length.is_none() && self.version > 0 {
                Ok(true)
            } else {
                Err(Status::BAD_REQUEST)
            };
        }
        match length {
            None => Ok(false),
            Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Ok(digits.iter().any(|&digit| digit != b'0'))
            }
            Some(_) => Err(Status::BAD_REQUEST),
        }
    }

    fn wants_keep_alive(&self) -> bool {
        let says = |option: &[u8]| {
            self.all("connection")
                .flat_map(|list| list.split(|&byte| byte == b','))
                .any(|item| item.trim_ascii().eq_ignore_ascii_case(option))
        };
        if self.version == 0 { says(b"keep-alive") && !says(b"close") } else { !says(b"close") }
    }
}

/// Whether an incomplete head may still become one that is small enough.
fn partial(bytes: &[u8], limits: HeadLimits) -> Result<(), Status> {
    /// The request line's other parts: a method, two spaces and the version.
    const AROUND_URI: usize = 32;
    // Empty lines may come before it.
    let line = bytes.trim_ascii_start();
    if !line.contains(&b'\n') && line.len() > limits.uri + AROUND_URI {
        return Err(Status::URI_TOO_LONG);
    }
    if bytes.len() >= limits.head {
        return Err(Status::HEADERS_TOO_LARGE);
    }
    Ok(())
}

/// Returns the status for a head that can't be parsed.
fn refusal(error: httparse::Error, bytes: &[u8]) -> Status {
    match error {
        httparse::Error::TooManyHeaders => Status::HEADERS_TOO_LARGE,
        httparse::Error::Version if names_http(bytes) => Status::VERSION_NOT_SUPPORTED,
        _ => Status::BAD_REQUEST,
    }
}

/// Whether the request line ends with `HTTP/` and a digit, as in `HTTP/2.0`.
fn names_http(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| matches!(byte, b'\r' | b'\n')).next();
    line.and_then(|line| line.rsplit(|&byte| byte == b' ').next())
        .and_then(|version| version.strip_prefix(b"HTTP/"))
        .is_some_and(|number| number.first().is_some_and(u8::is_ascii_digit))
}
