//! The file server's paths: none leads above the root, and each survives its own encoding.

#![no_main]

#[allow(dead_code)]
#[path = "../../examples/file_server/authority.rs"]
mod authority;
#[allow(dead_code)]
#[path = "../../examples/file_server/paths.rs"]
mod paths;

use std::os::unix::ffi::OsStrExt;
use std::path::Component;

use libfuzzer_sys::fuzz_target;
use paths::{UrlPath, encode};

fuzz_target!(|target: &str| {
    let mut path = UrlPath::new();
    if path.parse(target).is_err() {
        return;
    }
    let decoded = path.as_path().to_owned();
    assert!(decoded.components().all(|part| matches!(part, Component::Normal(_))));
    assert!(!decoded.as_os_str().as_bytes().contains(&0));
    let again = format!("/{}", encode(decoded.as_os_str().as_bytes()));
    assert!(path.parse(&again).is_ok(), "{again}");
    assert_eq!(path.as_path(), decoded);
});
