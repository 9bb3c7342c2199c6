//! Ports of the servers: each is one program's alone, and UDP answers leave from the right address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::process::{GUARD, Running, example, finish};

/// Starts a server; returns it and its address.
#[track_caller]
fn started(name: &str, driver: &str, address: &str) -> (Running, SocketAddr) {
    let mut command = example(name);
    let process =
        Running::start(command.args(["--addr", address, "--workers", "2", "--driver", driver]));
    let line = process.line();
    let address = line.strip_prefix("listening on ").and_then(|text| text.parse().ok());
    (process, address.unwrap_or_else(|| panic!("no address in {line:?}")))
}

#[test]
fn a_second_program_on_a_port_is_refused() {
    let tcp: [(&str, &[&str]); 5] = [
        ("file_server", &["."]),
        ("chat", &[]),
        ("acceptor", &[]),
        ("echo_server", &[]),
        ("tcp_proxy", &["--to", "127.0.0.1:9"]),
    ];
    for driver in ["auto", "readiness"] {
        for (first, seconds) in [("echo_server", &tcp[..]), ("udp_echo", &[("udp_echo", &[])])] {
            let (_process, address) = started(first, driver, "127.0.0.1:0");
            for (name, arguments) in seconds {
                let mut command = example(name);
                command.args(["--driver", driver, "--addr", &address.to_string()]);
                let refused = finish(command.args(*arguments));
                assert_eq!(refused.status.code(), Some(1), "{name} beside {first}: {refused:?}");
                assert!(refused.stderr.contains("in use"), "{refused:?}");
                assert_eq!(refused.stdout, "");
            }
        }
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "loopback has one address here")]
fn a_udp_answer_leaves_from_the_address_that_was_asked() {
    for driver in ["auto", "readiness"] {
        for unspecified in ["0.0.0.0:0", "[::]:0"] {
            let (_process, bound) = started("udp_echo", driver, unspecified);
            let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
            client.set_read_timeout(Some(GUARD)).expect("a limit");
            let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), bound.port()));
            client.send_to(b"x", asked).expect("a datagram");
            let (_, source) = client.recv_from(&mut [0; 9]).expect("an answer");
            assert_eq!(source, asked, "{driver}, bound to {unspecified}");
        }
    }
}
