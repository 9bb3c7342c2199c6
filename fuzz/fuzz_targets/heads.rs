//! The file server's request heads: a head is complete at one length only, however it arrives,
//! keeps its limits, and has no body by a second, simple reading either.

#![no_main]

#[allow(dead_code)]
#[path = "../../examples/file_server/authority.rs"]
mod authority;
#[allow(dead_code)]
#[path = "../../examples/file_server/request.rs"]
mod request;
#[allow(dead_code)]
#[path = "../../examples/file_server/response.rs"]
mod response;

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use request::{HeadLimits, Headers, MAX_HEADERS, Request};

const LIMITS: HeadLimits = HeadLimits { uri: 64, head: 512 };

fn no_headers<'a>() -> Headers<'a> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// Asserts that no reader finds a body after this head, or a second meaning in it.
fn assert_clear(head: &[u8]) {
    let head = String::from_utf8_lossy(head);
    assert!(!head.replace("\r\n", "\n").contains(['\r', '\0']), "a bare CR or a NUL: {head:?}");
    let (mut lengths, mut hosts) = (0, 0);
    for line in head.trim_start().lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a colon");
        assert!(
            !name.contains([' ', '\t']),
            "a folded line, or a space before the colon: {line:?}"
        );
        match &*name.to_ascii_lowercase() {
            "transfer-encoding" => panic!("an unlimited body: {line:?}"),
            "content-length" => {
                lengths += 1;
                assert!(value.trim().bytes().all(|digit| digit == b'0'), "a body: {line:?}");
            }
            "host" => hosts += 1,
            _ => {}
        }
    }
    assert!(lengths <= 1 && hosts <= 1, "a field twice: {head:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let mut headers = no_headers();
    let Ok(Some(whole)) = Request::parse(bytes, &mut headers, LIMITS) else { return };
    assert!(whole.len <= bytes.len().min(LIMITS.head) && whole.target.len() <= LIMITS.uri);
    assert_clear(&bytes[..whole.len]);
    let mut headers = no_headers();
    let exact = Request::parse(&bytes[..whole.len], &mut headers, LIMITS);
    let exact = exact.ok().flatten().expect("the head without what follows it");
    assert_eq!((exact.len, exact.target), (whole.len, whole.target));
    for len in 0..whole.len {
        let mut headers = no_headers();
        let part = Request::parse(&bytes[..len], &mut headers, LIMITS);
        assert!(matches!(part, Ok(None)), "an answer to {len} bytes of {}", whole.len);
    }
});
