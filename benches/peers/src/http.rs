//! HTTP as far as the measured servers need it; the same for all of them, as it isn't what is measured.

use std::io::Write;
use std::path::{Path, PathBuf};

/// What is answered to each request of the "hello" service.
pub(crate) const HELLO: &[u8] = b"Hello, World!";

/// The head and body of that answer.
pub(crate) fn hello(out: &mut Vec<u8>) {
    head(out, HELLO.len() as u64);
    out.extend_from_slice(HELLO);
}

/// The head of an answer with a body of so many bytes.
pub(crate) fn head(out: &mut Vec<u8>, len: u64) {
    write!(out, "HTTP/1.1 200 OK\r\nServer: peers\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n")
        .expect("a vector takes everything");
}

/// A request at the start of `bytes`: how long it is, and what it asks for; `None`: more is needed.
pub(crate) fn request(bytes: &[u8]) -> Option<(usize, &str)> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).expect("the generator sends valid requests") {
        httparse::Status::Complete(len) => Some((len, request.path.expect("a request has a path"))),
        httparse::Status::Partial => None,
    }
}

/// Answers all whole requests at the start of `bytes`, and takes them off.
pub(crate) fn answer_hello(bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut done = 0;
    while let Some((len, _)) = request(&bytes[done..]) {
        hello(out);
        done += len;
    }
    bytes.drain(..done);
}

/// The first whole request's file, and takes the request off.
pub(crate) fn take_file_request(bytes: &mut Vec<u8>, root: &Path) -> Option<PathBuf> {
    let (len, path) = request(bytes)?;
    let path = root.join(path.trim_start_matches('/'));
    bytes.drain(..len);
    Some(path)
}

/// The most bytes of a file that are read and sent at a time by servers that do it so.
pub(crate) const CHUNK: usize = 64 * 1024;
