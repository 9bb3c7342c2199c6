//! The expected answer, compared with the received bytes as they arrive.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

/// The answer that the server must give.
#[derive(Clone)]
pub(crate) enum Expected {
    /// The request itself.
    Echo,
    /// An HTTP response with this body.
    Body(Rc<dyn AsRef<[u8]>>),
}

/// The largest receive buffer of a connection.
const LARGEST: usize = 256 * 1024;
const LONGEST_HEAD: usize = 1024;

impl Expected {
    /// Returns the size of a connection's receive buffer.
    pub(super) fn buffer(&self, request: &[u8]) -> usize {
        match self {
            Expected::Echo => request.len(),
            Expected::Body(body) => ((**body).as_ref().len() + LONGEST_HEAD).min(LARGEST),
        }
    }
}

/// How much of an answer has been received.
#[derive(Default)]
pub(super) struct Progress {
    head: Vec<u8>,
    in_body: bool,
    at: usize,
}

impl Progress {
    /// Returns how many bytes to receive next: at most the rest of this answer.
    pub(super) fn room(&self, expected: &Expected, request: &[u8], buffer: usize) -> usize {
        match expected {
            Expected::Echo => request.len() - self.at,
            Expected::Body(body) if self.in_body => buffer.min((**body).as_ref().len() - self.at),
            Expected::Body(_) => buffer,
        }
    }

    /// Compares received bytes; returns `true` if the answer is complete.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        expected: &Expected,
        request: &[u8],
    ) -> Result<bool> {
        let whole: &[u8] = match expected {
            Expected::Echo => request,
            Expected::Body(body) => {
                let body = (**body).as_ref();
                if !self.in_body {
                    let Some(rest) = self.take_head(bytes, body.len())? else { return Ok(false) };
                    bytes = rest;
                }
                body
            }
        };
        let end = self.at + bytes.len();
        ensure!(end <= whole.len(), "received {end} bytes instead of {}", whole.len());
        ensure!(whole[self.at..end] == *bytes, "a wrong answer in bytes {} to {end}", self.at);
        self.at = end;
        Ok(end == whole.len())
    }

    /// Parses the head; returns the part of `bytes` that follows it, or `None` if more is needed.
    fn take_head<'a>(&mut self, bytes: &'a [u8], body: usize) -> Result<Option<&'a [u8]>> {
        // Nearly always the head arrives in one piece.
        let before = self.head.len();
        let whole: &[u8] = if before == 0 {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            &self.head
        };
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(len) =
            response.parse(whole).context("not an HTTP response")?
        else {
            if before == 0 {
                self.head.extend_from_slice(bytes);
            }
            return Ok(None);
        };
        ensure!(response.code == Some(200), "status {:?}", response.code);
        let length = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
        let Some(length) = length else { bail!("a response without a Content-Length") };
        ensure!(length == body, "a body of {length} bytes instead of {body}");
        self.in_body = true;
        Ok(Some(&bytes[len - before..]))
    }
}
