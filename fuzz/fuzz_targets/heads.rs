//! The file server's request heads: a head is complete at one length only, however it arrives, and
//! keeps its limits.

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

fuzz_target!(|bytes: &[u8]| {
    let mut headers = no_headers();
    let Ok(Some(whole)) = Request::parse(bytes, &mut headers, LIMITS) else { return };
    assert!(whole.len <= bytes.len().min(LIMITS.head) && whole.target.len() <= LIMITS.uri);
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
