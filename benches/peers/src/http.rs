//! The part of HTTP that the measured servers need, the same for all of them.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The body of the answers of `Service::Http`.
pub(crate) const HELLO: &[u8] = b"Hello, World!";

/// Appends head and body of the answer of `Service::Http`.
pub(crate) fn hello(out: &mut Vec<u8>) {
    head(out, HELLO.len() as u64);
    out.extend_from_slice(HELLO);
}

/// Appends the head of an answer with a body of `len` bytes.
pub(crate) fn head(out: &mut Vec<u8>, len: u64) {
    const FIELDS: &str = "HTTP/1.1 200 OK\r\nServer: peers\r\nContent-Type: text/plain\r\n";
    write!(out, "{FIELDS}Content-Length: {len}\r\n\r\n")
        .expect("writing to a vector does not fail");
}

/// Parses a request at the start of `bytes`: its length and path; `None` if more bytes are needed.
pub(crate) fn request(bytes: &[u8]) -> Option<(usize, &str)> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).expect("the generator sends valid requests") {
        httparse::Status::Complete(len) => Some((len, request.path.expect("a request has a path"))),
        httparse::Status::Partial => None,
    }
}

/// Answers all complete requests at the start of `bytes`, and removes them.
pub(crate) fn answer_hello(bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut done = 0;
    while let Some((len, _)) = request(&bytes[done..]) {
        hello(out);
        done += len;
    }
    bytes.drain(..done);
}

/// Removes the first complete request, and returns the path of its file.
pub(crate) fn take_file_request(bytes: &mut Vec<u8>, root: &Path) -> Option<PathBuf> {
    let (len, path) = request(bytes)?;
    let path = root.join(path.trim_start_matches('/'));
    bytes.drain(..len);
    Some(path)
}

/// The piece size of servers that read and send a file in pieces.
pub(crate) const CHUNK: usize = 64 * 1024;
