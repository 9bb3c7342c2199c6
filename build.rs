//! Finds out what the compiler's standard library has beyond that of `rust-version`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // `std::io::PipeReader` and `std::io::PipeWriter`. Without an answer the library does without.
    if minor_version().is_some_and(|minor| minor >= 87) {
        println!("cargo::rustc-cfg=corio_std_pipe");
    }
}

/// The `87` of `rustc 1.87.0 (…)`.
fn minor_version() -> Option<u32> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}
