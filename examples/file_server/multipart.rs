//! Several parts of a file in one body (`multipart/byteranges`).

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// The headers and boundaries of the body; the bytes come from the file.
pub(crate) struct Multipart<'a> {
    boundary: String,
    heads: Vec<String>,
    parts: &'a [Range<u64>],
    end: String,
}

impl<'a> Multipart<'a> {
    /// Makes a body of these parts of a file that is `len` bytes long.
    pub(crate) fn new(mime: &str, parts: &'a [Range<u64>], len: u64) -> Self {
        // Each `RandomState` has other keys, so no file can be prepared that contains the boundary.
        let [high, low] = [0, 1].map(|half| RandomState::new().hash_one(half));
        let boundary = format!("{high:016x}{low:016x}");
        let head = |part: &Range<u64>| {
            let (first, last) = (part.start, part.end - 1);
            format!(
                "\r\n--{boundary}\r\nContent-Type: {mime}\r\n\
                 Content-Range: bytes {first}-{last}/{len}\r\n\r\n"
            )
        };
        let heads = parts.iter().map(head).collect();
        let end = format!("\r\n--{boundary}--\r\n");
        Multipart { boundary, heads, parts, end }
    }

    /// The type of the whole body.
    pub(crate) fn content_type(&self) -> impl Display {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The length of the whole body.
    pub(crate) fn len(&self) -> u64 {
        let parts = self.parts().map(|(head, part)| head.len() as u64 + (part.end - part.start));
        parts.sum::<u64>() + self.end.len() as u64
    }

    /// Returns each part, with the bytes that go before it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, &Range<u64>)> {
        self.heads.iter().map(String::as_str).zip(self.parts)
    }

    /// Returns the bytes that go after the last part.
    pub(crate) fn end(&self) -> &str {
        &self.end
    }
}
