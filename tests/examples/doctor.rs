//! `doctor`: the same facts as text and as JSON, whatever the host forbids.

// # Why this file has `unsafe`
// It runs code between fork and exec.

use std::os::unix::process::CommandExt;

use serde_json::Value;

use crate::harness::seccomp::{REGISTER, SETUP, forbid, is_here};
use crate::process::{example, finish};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn text_and_json_agree() {
    let text = finish(&mut example("doctor"));
    let tools = finish(example("doctor").arg("--json"));
    assert!(text.status.success() && tools.status.success(), "{text:?} {tools:?}");
    let report = json(&tools.stdout);
    let name = report["driver"]["name"].as_str().expect("a driver");
    let line = text.stdout.lines().find(|line| line.starts_with("corio will use"));
    assert!(line.is_some_and(|line| line.ends_with(name)), "{text:?}");
    assert_eq!(report["kernel"]["system"], std::env::consts::OS);
    assert!(report["cores"]["usable"].as_u64().is_some_and(|cores| cores > 0), "{report}");
    assert!(report["limits"]["open_files"]["soft"].as_u64().is_some(), "{report}");
}

#[test]
fn the_environment_is_heeded() {
    let told = finish(example("doctor").arg("--json").env("CORIO_DRIVER", "readiness"));
    let report = json(&told.stdout);
    assert_eq!(report["driver"]["name"], "readiness");
    assert_eq!(report["driver"]["environment"], "readiness");

    let wrong = finish(example("doctor").env("CORIO_DRIVER", "nonsense"));
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(wrong.stdout.contains("auto, uring or readiness"), "{wrong:?}");
}

#[test]
fn a_sandbox_is_named() {
    if !is_here() {
        return;
    }
    let mut doctor = example("doctor");
    doctor.arg("--json");
    // SAFETY: sets a filter by two system calls; it neither allocates nor locks.
    unsafe { doctor.pre_exec(|| forbid(SETUP..=REGISTER, libc::EPERM)) };
    let told = finish(&mut doctor);
    assert!(told.status.success(), "{told:?}");
    let report = json(&told.stdout);
    assert_eq!(report["driver"]["name"], "readiness");
    let reason = report["driver"]["fallback_reason"].as_str().expect("a reason");
    assert!(reason.contains("forbidden by a security policy"), "{reason}");
    assert!(report["io_uring"].is_null());
    let advice = report["advice"].as_array().expect("a list");
    assert!(advice.iter().any(|one| one["why"] == reason), "{report}");
}
