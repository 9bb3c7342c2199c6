//! A small HTTP client that sees every byte, for tests of servers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The time limit of a read or write, as a guard against hanging.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Received bytes that belong to no response yet.
    rest: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status line and header fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Returns the value of a header field, which occurs at most once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.split("\r\n").skip(1).filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice in {}", self.head);
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Asserts the status, showing the whole response if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.head);
        self
    }
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        stream.set_write_timeout(Some(TIME_LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, rest: Vec::new() }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// Connects with a small receive buffer.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request for `target`, with more fields (each ended by a line break) if wanted.
    pub(crate) fn request(&mut self, method: &str, target: &str, fields: &str) -> &mut Self {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.get_with(target, "")
    }

    pub(crate) fn get_with(&mut self, target: &str, fields: &str) -> Response {
        self.request("GET", target, fields).response()
    }

    pub(crate) fn head(&mut self, target: &str, fields: &str) -> Response {
        self.request("HEAD", target, fields).response_head()
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut chunk = vec![0; 64 << 10];
        let len = self.stream.read(&mut chunk)?;
        self.rest.extend_from_slice(&chunk[..len]);
        Ok(len > 0)
    }

    /// Reads a response that has no body.
    pub(crate) fn response_head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.more().unwrap(), "ended within a head: {:?}", self.rest.escape_ascii());
        };
        let head = String::from_utf8(self.rest.drain(..end + 4).take(end).collect()).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let status = status.unwrap_or_else(|| panic!("a strange status line: {head}"));
        Response { status, head, body: Vec::new() }
    }

    /// Reads a response, with a body as long as it says.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.response_head();
        let len = response.field("content-length").map_or(0, |len| len.parse().unwrap());
        while self.rest.len() < len {
            assert!(self.more().unwrap(), "ended within a body");
        }
        response.body = self.rest.drain(..len).collect();
        response
    }

    /// Reads up to the end of the stream; a reset is an error.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.rest))
    }

    /// Waits for the next `len` bytes, and returns them without consuming them.
    pub(crate) fn first_bytes(&mut self, len: usize) -> io::Result<&[u8]> {
        while self.rest.len() < len {
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(&self.rest[..len])
    }

    /// Takes the received bytes that belong to no response yet.
    pub(crate) fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    /// Asserts that the server ends the connection without another byte.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest().expect("the connection ends in good order");
        assert!(rest.is_empty(), "more has come: {}", rest.escape_ascii());
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
