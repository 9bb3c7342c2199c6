//! The file server's byte ranges: all within the file, none empty, together no longer than it.

#![no_main]

#[allow(dead_code)]
#[path = "../../examples/file_server/ranges.rs"]
mod ranges;

use libfuzzer_sys::fuzz_target;
use ranges::{Selection, select};

fuzz_target!(|input: (u64, &[u8])| {
    let (len, value) = input;
    if let Selection::Parts(parts) = select(value, len) {
        assert!(!parts.is_empty());
        assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
        let sum: u128 = parts.iter().map(|part| u128::from(part.end - part.start)).sum();
        assert!(sum <= u128::from(len));
    }
});
