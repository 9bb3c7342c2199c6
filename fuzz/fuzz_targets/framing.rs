//! The bodies that `fetch_many` receives: they end at the same byte however they arrive, and where
//! a second, simple reading of RFC 9112 ends them; what that refuses is refused.

#![no_main]

#[allow(dead_code)]
#[path = "../../examples/fetch_many/framing.rs"]
mod framing;

use std::io;

use framing::{Body, Framing, Head, parse_head};
use libfuzzer_sys::fuzz_target;

/// Small, so that inputs reach it.
const MAX_HEAD: usize = 256;
const LIMIT: u64 = 1 << 20;

/// What was found in the bytes, and how many of them were used.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Complete { len: u64, used: usize },
    Incomplete,
    Refused(io::ErrorKind),
}

/// Takes a body that arrives in pieces of these lengths, again and again.
fn take(framing: Framing, bytes: &[u8], pieces: &[u8]) -> Found {
    let mut body = match Body::new(framing, LIMIT) {
        Ok(body) => body,
        Err(error) => return Found::Refused(error.kind()),
    };
    let (mut used, mut arrived) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        match body.take(&bytes[used..arrived]) {
            Ok(len) => used += len,
            Err(error) => return Found::Refused(error.kind()),
        }
        assert!(used <= arrived);
        if body.is_complete() {
            return Found::Complete { len: body.len(), used };
        }
        if arrived == bytes.len() {
            return match body.end() {
                Ok(len) => Found::Complete { len, used },
                Err(_) => Found::Incomplete,
            };
        }
        let piece = pieces.next().map_or(bytes.len(), |&piece| usize::from(piece).max(1));
        arrived = bytes.len().min(arrived + piece);
    }
}

/// Reads a body that is there as a whole; `None` if it is malformed or incomplete.
fn read(framing: Framing, bytes: &[u8]) -> Option<(u64, usize)> {
    match framing {
        Framing::UntilClose => Some((bytes.len() as u64, bytes.len())),
        Framing::Length(len) => (bytes.len() as u64 >= len).then_some((len, len as usize)),
        Framing::Chunked => {
            let (mut at, mut len) = (0, 0);
            loop {
                let line = line(bytes, &mut at)?;
                let size = std::str::from_utf8(line.split(|&byte| byte == b';').next()?).ok()?;
                let size = size.trim_end_matches([' ', '\t']);
                if size.starts_with('+') || line.iter().any(|&byte| byte < 32 && byte != b'\t') {
                    return None;
                }
                let size = usize::try_from(u64::from_str_radix(size, 16).ok()?).ok()?;
                if size == 0 {
                    break;
                }
                let end = at.checked_add(size)?;
                if bytes.get(end..end.checked_add(2)?)? != b"\r\n" {
                    return None;
                }
                (at, len) = (end + 2, len + size as u64);
            }
            // Trailers may end with a line feed alone, as all fields may (section 2.2).
            loop {
                let rest = &bytes[at..];
                let end = rest.iter().position(|&byte| byte == b'\n')?;
                at += end + 1;
                if matches!(&rest[..end], b"" | b"\r") {
                    return Some((len, at));
                }
            }
        }
    }
}

/// Returns the bytes before the next CRLF, and moves behind it.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

/// Returns the framing that a head asks for, and the head's length; `None` if it is refused or
/// incomplete.
fn framing_of(bytes: &[u8]) -> Option<(Framing, usize)> {
    let (Head { framing, .. }, len) = parse_head(bytes).ok()??;
    assert!(len <= bytes.len().min(MAX_HEAD));
    for part in 0..len {
        // A shorter part may not be refused: the rest might not have arrived.
        assert!(matches!(parse_head(&bytes[..part]), Ok(None)), "{part} bytes of {len}");
    }
    Some((framing, len))
}

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (start, pieces, bytes) = input;
    let with_line;
    let (framing, rest) = match start % 3 {
        0 => (Framing::Chunked, bytes),
        start => {
            // Half of the heads begin with a status line.
            let line: &[u8] = if start == 1 { b"HTTP/1.1 200 -\r\n" } else { b"" };
            with_line = [line, bytes].concat();
            let Some((framing, head)) = framing_of(&with_line) else { return };
            (framing, &with_line[head..])
        }
    };
    let whole = take(framing, rest, &[]);
    assert_eq!(take(framing, rest, &[1]), whole);
    assert_eq!(take(framing, rest, pieces), whole);
    if let Found::Complete { len, used } = whole {
        assert_eq!(read(framing, rest), Some((len, used)), "{framing:?}");
    }
});
