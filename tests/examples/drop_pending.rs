//! `drop_pending`: an operation dropped in flight, under either policy.

use std::os::unix::process::ExitStatusExt;

use crate::process::{example, finish, limited};

#[test]
fn abort_ends_the_process_with_a_report() {
    // No core dump: this is not an accident.
    let died = finish(&mut limited("-c 0", "drop_pending"));
    assert_eq!(died.status.signal(), Some(6), "SIGABRT expected: {died:?}");
    assert_eq!(died.stdout, "in flight: 1\n");
    for part in [
        "dropped while its operation was still in flight",
        "recv on fd ",
        ", 64 bytes",
        "examples/drop_pending.rs:",
        "with_timeout",
        "CancelAndWait",
    ] {
        assert!(died.stderr.contains(part), "no {part:?} in the report:\n{}", died.stderr);
    }
}

#[test]
fn cancel_and_wait_goes_on() {
    let done = finish(example("drop_pending").args(["--policy", "cancel-and-wait"]));
    assert!(done.status.success(), "{done:?}");
    assert_eq!(done.stdout, "in flight: 1\nin flight: 0, so the kernel has let go\n");
    assert_eq!(done.stderr, "");
}
