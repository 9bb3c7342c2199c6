//! The examples as processes, with arguments, signals and limits.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod copy;
mod descriptors;
mod doctor;
mod drop_pending;
mod echo_server;
mod fetch_many;
mod file_server;
mod log;
mod ports;
mod process;
mod servers;

use process::{example, finish};

#[test]
fn each_example_explains_itself() {
    for (name, argument) in [
        ("acceptor", "--workers"),
        ("chat", "--driver"),
        ("copy", "--block-size"),
        ("doctor", "--json"),
        ("drop_pending", "cancel-and-wait"),
        ("echo_server", "--addr"),
        ("fetch_many", "--timeout"),
        ("tcp_proxy", "--to"),
        ("udp_echo", "--addr"),
    ] {
        let help = finish(example(name).arg("--help"));
        assert!(help.status.success(), "{name}: {help:?}");
        assert!(help.stdout.contains("Usage:") && help.stdout.contains(argument), "{help:?}");
    }
}

#[test]
fn wrong_usage_is_status_2_with_a_message() {
    for (name, arguments) in [
        ("copy", &["only-one"][..]),
        ("copy", &["a", "b", "--depth", "0"]),
        ("copy", &["a", "b", "--block-size", "none"]),
        ("drop_pending", &["--policy", "hope"]),
        ("echo_server", &["--address"]),
        ("fetch_many", &[]),
        ("fetch_many", &["https://localhost/"]),
        ("fetch_many", &["localhost:port"]),
        ("fetch_many", &["localhost/a b"]),
        ("fetch_many", &["localhost", "--timeout", "-1"]),
        ("tcp_proxy", &[]),
        ("echo_server", &["--workers", "0"]),
        ("echo_server", &["--idle", "0"]),
        ("echo_server", &["--idle", "NaN"]),
        ("echo_server", &["--idle", "soon"]),
        ("echo_server", &["--grace", "-1"]),
        ("echo_server", &["--balance", "fair"]),
        ("chat", &["--workers", "99999999999999999999"]),
        ("fetch_many", &["localhost", "--timeout", "0"]),
        ("fetch_many", &["localhost", "--limit", "1e30"]),
        ("tcp_proxy", &["--to", "a:1", "--max-connections", "99999999999999999999"]),
    ] {
        let refused = finish(example(name).args(arguments));
        assert_eq!(refused.status.code(), Some(2), "{name} {arguments:?}: {refused:?}");
        assert!(refused.stderr.starts_with("error: "), "{name} {arguments:?}: {refused:?}");
        let mut options = arguments.iter().filter(|argument| argument.starts_with("--"));
        if let Some(option) = options.next_back() {
            assert!(refused.stderr.contains(option), "{name} {arguments:?}: {refused:?}");
        }
        assert_eq!(refused.stdout, "");
    }
}
