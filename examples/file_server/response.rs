//! A response's head, and the pages of errors.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display};
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, &'static str);

impl Status {
    pub(crate) const OK: Self = Status(200, "OK");
    pub(crate) const PARTIAL_CONTENT: Self = Status(206, "Partial Content");
    pub(crate) const MOVED_PERMANENTLY: Self = Status(301, "Moved Permanently");
    pub(crate) const NOT_MODIFIED: Self = Status(304, "Not Modified");
    pub(crate) const BAD_REQUEST: Self = Status(400, "Bad Request");
    pub(crate) const FORBIDDEN: Self = Status(403, "Forbidden");
    pub(crate) const NOT_FOUND: Self = Status(404, "Not Found");
    pub(crate) const METHOD_NOT_ALLOWED: Self = Status(405, "Method Not Allowed");
    pub(crate) const REQUEST_TIMEOUT: Self = Status(408, "Request Timeout");
    pub(crate) const PRECONDITION_FAILED: Self = Status(412, "Precondition Failed");
    pub(crate) const CONTENT_TOO_LARGE: Self = Status(413, "Content Too Large");
    pub(crate) const URI_TOO_LONG: Self = Status(414, "URI Too Long");
    pub(crate) const RANGE_NOT_SATISFIABLE: Self = Status(416, "Range Not Satisfiable");
    pub(crate) const HEADERS_TOO_LARGE: Self = Status(431, "Request Header Fields Too Large");
    pub(crate) const INTERNAL_ERROR: Self = Status(500, "Internal Server Error");
    pub(crate) const NOT_IMPLEMENTED: Self = Status(501, "Not Implemented");
    pub(crate) const UNAVAILABLE: Self = Status(503, "Service Unavailable");
    pub(crate) const VERSION_NOT_SUPPORTED: Self = Status(505, "HTTP Version Not Supported");

    /// One sentence for the error's page.
    fn explanation(self) -> &'static str {
        match self {
            Status::BAD_REQUEST => "The request could not be understood.",
            Status::FORBIDDEN => "This file may not be served.",
            Status::NOT_FOUND => "There is no file of this name.",
            Status::METHOD_NOT_ALLOWED => "Only GET and HEAD are allowed.",
            Status::REQUEST_TIMEOUT => "The request took too long to arrive.",
            Status::PRECONDITION_FAILED => {
                "The file has changed: a precondition of the request failed."
            }
            Status::CONTENT_TOO_LARGE => "This server accepts no request bodies.",
            Status::URI_TOO_LONG => "The request's target is too long.",
            Status::RANGE_NOT_SATISFIABLE => "The requested range is outside of the file.",
            Status::HEADERS_TOO_LARGE => "The request's head is too large.",
            Status::INTERNAL_ERROR => "The file could not be read.",
            Status::NOT_IMPLEMENTED => "This method is not implemented.",
            Status::UNAVAILABLE => "The server is too busy; try again in a moment.",
            Status::VERSION_NOT_SUPPORTED => "This server speaks HTTP/1.0 and HTTP/1.1.",
            _ => "",
        }
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    /// As above, with the header that an HTTP/1.0 client needs.
    KeepAliveTold,
    Close,
}

/// A head being written into a buffer; to be [ended](Self::end).
#[must_use = "a head has to be ended"]
pub(crate) struct Head<'a>(&'a mut Vec<u8>);

impl<'a> Head<'a> {
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        status: Status,
        clock: &Clock,
        after: Persistence,
    ) -> Self {
        out.extend_from_slice(b"HTTP/1.1 ");
        let mut head = Head(out);
        head.write(format_args!("{status}\r\nDate: "));
        clock.with(|date| head.0.extend_from_slice(date));
        head.0.extend_from_slice(match after {
            Persistence::KeepAlive => b"\r\n",
            Persistence::KeepAliveTold => b"\r\nConnection: keep-alive\r\n",
            Persistence::Close => b"\r\nConnection: close\r\n",
        });
        head
    }

    /// Adds a field whose value is text.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.0.extend_from_slice(value.as_bytes());
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: impl Display) -> Self {
        self.name(name);
        self.write(format_args!("{value}\r\n"));
        self
    }

    pub(crate) fn end(self) {
        self.0.extend_from_slice(b"\r\n");
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing into memory succeeds");
    }
}

/// The page that explains an error.
pub(crate) fn page(status: Status) -> String {
    let explanation = status.explanation();
    format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{status}</title>\n\
         <h1>{status}</h1>\n<p>{explanation}</p>\n"
    )
}

/// The last second of the year 9999; HTTP has no later dates.
const LAST_DATE: u64 = 253_402_300_799;

/// The current time in seconds since 1970, as far as HTTP has dates.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs()).min(LAST_DATE)
}

/// The current date, written out once per second.
pub(crate) struct Clock {
    second: Cell<u64>,
    text: RefCell<Vec<u8>>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { second: Cell::new(u64::MAX), text: RefCell::default() }
    }

    fn with(&self, use_date: impl FnOnce(&[u8])) {
        let second = now();
        if self.second.replace(second) != second {
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            self.text.replace(date.to_string().into_bytes());
        }
        use_date(&self.text.borrow());
    }
}
