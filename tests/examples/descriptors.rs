//! Servers that are short of file descriptors: as many connections as fit are served, and the
//! others wait in the kernel's queue.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use crate::process::limited;
use crate::servers::{DRIVERS, Server};

/// Soft and hard limit, and a soft one that the server raises.
const LIMITS: [&str; 2] = ["-n 200", "-S -n 50 && ulimit -H -n 200"];

const CLIENTS: usize = 400;

#[test]
fn a_file_server_short_of_descriptors_serves_400_clients_and_resets_none() {
    for (limit, driver) in LIMITS.into_iter().flat_map(|limit| DRIVERS.map(|name| (limit, name))) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "hello").unwrap();
        let mut command = limited(limit, "file_server");
        command.arg(dir.path()).args(["--idle-timeout", "never"]);
        let server = Server::by(command, driver, &[]);
        let mut crowd: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        for client in &mut crowd {
            let request = "GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            client.write_all(request.as_bytes()).unwrap();
        }
        for (number, client) in crowd.iter_mut().enumerate() {
            let mut response = String::new();
            let read = client.read_to_string(&mut response);
            assert!(read.is_ok(), "client {number}, {driver}, ulimit {limit}: {read:?}");
            assert!(response.starts_with("HTTP/1.1 200 "), "client {number}: {response}");
            assert!(response.ends_with("\r\n\r\nhello"), "client {number}: {response}");
        }
        assert_eq!(server.end().stderr, "");
    }
}

#[test]
fn a_proxy_short_of_descriptors_serves_400_clients_and_resets_none() {
    for (limit, driver) in LIMITS.into_iter().flat_map(|limit| DRIVERS.map(|name| (limit, name))) {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let proxy = Server::by(limited(limit, "tcp_proxy"), driver, &["--to", &to]);
        let echo = thread::spawn(move || {
            for _ in 0..CLIENTS {
                let (mut stream, mut word) = (upstream.accept().unwrap().0, Vec::new());
                stream.read_to_end(&mut word).unwrap();
                stream.write_all(&word).unwrap();
            }
        });
        let mut crowd: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
        for (number, client) in crowd.iter_mut().enumerate() {
            client.write_all(format!("client {number}").as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        for (number, client) in crowd.iter_mut().enumerate() {
            let mut back = String::new();
            let read = client.read_to_string(&mut back);
            assert!(read.is_ok(), "client {number}, {driver}, ulimit {limit}: {read:?}");
            assert_eq!(back, format!("client {number}"));
        }
        echo.join().unwrap();
        assert_eq!(proxy.end().stderr, "");
    }
}

#[test]
fn a_full_file_server_keeps_no_connection_open_after_its_response() {
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "hello").unwrap();
        let mut command = limited("-n 60", "file_server");
        command.arg(dir.path()).args(["--idle-timeout", "never"]);
        let server = Server::by(command, driver, &[]);
        // More than fit, if they stayed.
        let mut kept = Vec::new();
        for number in 0..60 {
            let mut client = server.connect();
            client.write_all(b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\nhello") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a response");
                response.push(byte[0]);
            }
            let response = String::from_utf8(response).unwrap();
            assert!(response.starts_with("HTTP/1.1 200 "), "client {number}: {response}");
            if response.contains("\r\nConnection: close\r\n") {
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "the server ends it");
            } else {
                kept.push(client);
            }
        }
        assert!((10..30).contains(&kept.len()), "{} connections are kept", kept.len());
        server.end();
    }
}
