//! `echo_server`: many clients, bad clients, too many clients, and a stop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::process::{Finished, GUARD, Running, example, finish, limited};

struct Server {
    process: Running,
    address: SocketAddr,
}

impl Server {
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        let process = Running::start(command.args(["--addr", "127.0.0.1:0"]));
        let line = process.line();
        let address = line.strip_prefix("listening on ").and_then(|text| text.parse().ok());
        Server { process, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream
    }

    #[track_caller]
    fn end(self, signal: &str) -> Finished {
        self.process.signal(signal);
        self.process.finish()
    }
}

/// Sends a text and receives it again.
#[track_caller]
fn ping(mut stream: &TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    expect(stream, text);
}

#[track_caller]
fn expect(mut stream: &TcpStream, text: &[u8]) {
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text);
}

/// Returns bytes without a pattern, different for each seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

#[test]
fn clients_are_served_side_by_side() {
    let server = Server::start(&mut example("echo_server"));
    let clients: Vec<_> = (0..16).map(|_| server.connect()).collect();
    // In reverse order: no client waits for an earlier one.
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate().rev() {
            ping(client, format!("client {number}, round {round}").as_bytes());
        }
    }
}

#[test]
fn a_client_that_says_nothing_is_sent_away() {
    let server = Server::start(example("echo_server").args(["--idle", "0.02"]));
    let mut client = server.connect();
    assert!(matches!(client.read(&mut [0; 1]), Ok(0)));
}

#[test]
fn a_megabyte_comes_back_also_after_the_client_has_ended_its_side() {
    let server = Server::start(&mut example("echo_server"));
    thread::scope(|scope| {
        for seed in 0..4 {
            let mut stream = server.connect();
            scope.spawn(move || {
                let sent = noise(seed, 1 << 20);
                let mut sender = stream.try_clone().unwrap();
                let copy = sent.clone();
                let sending = thread::spawn(move || {
                    sender.write_all(&copy).unwrap();
                    sender.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
                sending.join().unwrap();
            });
        }
    });
    let end = server.end("TERM");
    assert_eq!((end.status.code(), end.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_connection_that_is_reset_costs_nothing_else() {
    let server = Server::start(&mut example("echo_server"));
    let bystander = server.connect();
    for _ in 0..8 {
        let rude = server.connect();
        ping(&rude, b"soon gone");
        // Closing resets the connection then.
        socket2::SockRef::from(&rude).set_linger(Some(Duration::ZERO)).unwrap();
    }
    ping(&bystander, b"still here");
    ping(&server.connect(), b"and others can come");
    let end = server.end("TERM");
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    // The server has noticed each, or cancels its connection at the stop.
    let expected =
        |line: &str| line.contains("reset by peer") || line.starts_with("failed connections: ");
    assert!(end.stderr.lines().all(expected), "{}", end.stderr);
}

#[test]
fn a_server_out_of_descriptors_serves_the_rest_later() {
    let server = Server::start(limited("-n 16", "echo_server").args(["--workers", "1"]));
    let clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(&[number as u8]).unwrap();
    }
    let complaint = server.process.error_line();
    assert!(complaint.contains("new connections have to wait"), "{complaint}");
    // The first clients are served, and make room for the rest when they disconnect.
    for (number, client) in clients.into_iter().enumerate() {
        expect(&client, &[number as u8]);
    }
    let end = server.end("TERM");
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    let expected =
        |line: &str| line.starts_with(&complaint) || line.starts_with("failed accepts: ");
    assert!(end.stderr.lines().all(expected), "{end:?}");
}

#[test]
fn both_signals_end_it_well_with_connections_open() {
    for signal in ["INT", "TERM"] {
        let server = Server::start(&mut example("echo_server"));
        let idle: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for client in &idle {
            ping(client, b"served");
        }
        // This client does not read its echo, so the server's send does not complete.
        let mut stuck = server.connect();
        stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let full = stuck.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert!(matches!(full.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{full}");

        let end = server.end(signal);
        // Its connection is cut at the end of the grace period, and the idle ones are not.
        let line = "echo_server: 1 connection was cut when the grace period ended\n";
        assert_eq!((end.status.code(), end.stderr.as_str()), (Some(1), line), "SIG{signal}");
        for mut client in idle {
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection has ended");
        }
    }
}

#[test]
fn an_address_that_can_not_be_had_is_an_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    // Documentation addresses (RFC 5737) belong to no host.
    for address in [taken.as_str(), "192.0.2.1:0", "nonsense"] {
        let failed = finish(example("echo_server").args(["--addr", address]));
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let start = format!("echo_server: {address}: ");
        assert!(failed.stderr.starts_with(&start), "{failed:?}");
        assert_eq!(failed.stdout, "");
    }
}
