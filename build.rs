//! Finds out what the target has, and what the compiler's standard library has beyond that of
//! `rust-version`.

use std::env;
use std::process::Command;

/// The processors that the `io-uring` crate supports. Cargo.toml names the same ones.
const RING_PROCESSORS: [&str; 5] = ["x86_64", "aarch64", "riscv64", "loongarch64", "powerpc64"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // `std::io::PipeReader` and `std::io::PipeWriter`. Without an answer the library does without.
    if minor_version().is_some_and(|minor| minor >= 87) {
        println!("cargo::rustc-cfg=corio_std_pipe");
    }
    if has_ring() {
        println!("cargo::rustc-cfg=corio_uring");
    }
}

/// Returns `true` if the target gets the io_uring driver. Miri knows no rings.
fn has_ring() -> bool {
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    target("OS") == "linux"
        && RING_PROCESSORS.contains(&target("ARCH").as_str())
        && env::var_os("CARGO_CFG_MIRI").is_none()
}

/// The `87` of `rustc 1.87.0 (…)`.
fn minor_version() -> Option<u32> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.strip_prefix("rustc 1.")?.split('.').next()?.parse().ok()
}
