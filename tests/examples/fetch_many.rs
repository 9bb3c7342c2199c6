//! `fetch_many`, from servers that are correct, unusual, silent and absent.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::harness::refusing;
use crate::process::{Finished, GUARD, example, finish};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Accepts a connection and reads the head of a request.
fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// Starts a server that answers one request with these bytes, and closes.
fn serve_once(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let (listener, address) = listen();
    let answer = answer.into();
    thread::spawn(move || {
        let (mut stream, _) = request(&listener);
        // A client that refuses the answer closes earlier.
        let _ = stream.write_all(&answer);
    });
    address
}

fn fetch<T: ToString>(targets: &[T], options: &[&str]) -> Finished {
    finish(example("fetch_many").args(targets.iter().map(T::to_string)).args(options))
}

/// The output line for each address.
fn lines(fetched: &Finished) -> HashMap<&str, &str> {
    fetched.stdout.lines().filter_map(|line| line.split_once("  ")).collect()
}

#[track_caller]
fn assert_starts(fetched: &Finished, target: &str, start: &str) {
    let line = lines(fetched).get(target).copied();
    assert!(line.is_some_and(|line| line.starts_with(start)), "{target}: {fetched:?}");
}

#[test]
fn all_requests_are_under_way_at_once() {
    const N: usize = 8;
    let (listener, address) = listen();
    thread::spawn(move || {
        // No request is answered before all have arrived: sequential requests would never end.
        let waiting: Vec<_> = (0..N).map(|_| request(&listener)).collect();
        for (mut stream, head) in waiting {
            let path = head.split(' ').nth(1).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())
                .unwrap();
        }
    });
    let targets: Vec<_> = (0..N).map(|n| format!("{address}/{}", "x".repeat(n))).collect();
    let fetched = fetch(&targets, &["--timeout", "30"]);
    assert!(fetched.status.success(), "{fetched:?}");
    assert_eq!(fetched.stderr, "");
    for (n, target) in targets.iter().enumerate() {
        assert_starts(&fetched, target, &format!("200  {} bytes  ", n + 1));
    }
}

#[test]
fn a_server_that_never_answers_holds_up_nobody() {
    let (silent, silent_address) = listen();
    let (deaf, deaf_address) = listen();
    thread::spawn(move || {
        // One server accepts and sends nothing until the client closes, the other does not accept.
        let (mut stream, _) = request(&silent);
        let _ = stream.read(&mut [0]);
    });
    let good = [serve_once("HTTP/1.1 200 OK\r\n\r\nfine"), serve_once("HTTP/1.1 404 -\r\n\r\n")];
    let targets = [silent_address, good[0], deaf_address, good[1]];
    let fetched = fetch(&targets, &["--timeout", "5.5"]);
    drop(deaf);

    assert_eq!(fetched.status.code(), Some(1), "{fetched:?}");
    assert_eq!(fetched.stderr, "fetch_many: 2 failed\n");
    for address in [silent_address, deaf_address] {
        assert_starts(&fetched, &address.to_string(), "error: no answer within 5.5s");
    }
    assert_starts(&fetched, &good[0].to_string(), "200  4 bytes  ");
    assert_starts(&fetched, &good[1].to_string(), "404  0 bytes  ");
    // In the order in which they completed.
    let first_two: Vec<_> = fetched.stdout.lines().take(2).collect();
    assert!(first_two.iter().all(|line| !line.contains("error")), "{fetched:?}");
}

#[test]
fn what_can_not_be_reached_is_reported() {
    let (refused, _kept) = refusing().expect("a port is free");
    let refused = refused.to_string();
    // Names under .invalid never exist (RFC 2606).
    let unknown = "no-such-host.invalid";
    let fetched = fetch(&[&refused, unknown], &[]);
    assert_eq!(fetched.status.code(), Some(1), "{fetched:?}");
    assert_starts(&fetched, &refused, "error: Connection refused");
    assert_starts(&fetched, unknown, "error: ");
}

#[test]
fn every_way_to_end_a_body_is_understood() {
    let long =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
                   5\r\nhello\r\n10;ext=1\r\n0123456789abcdef\r\n\
                   00000000000000000000F ; a=\"b\"\r\n0123456789abcde\r\n\
                   0\r\nTrailer: x\r\n\r\n";
    for (answer, expected) in [
        (long.as_str(), "200  1000000 bytes"),
        (chunked, "200  36 bytes"),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", "200  13 bytes"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204  0 bytes"),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody", "200  4 bytes"),
        (
            "HTTP/1.1 200 -\r\nContent-Length: 4, 4\r\nContent-Length: 04\r\n\r\nsame",
            "200  4 bytes",
        ),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nhm", "500  2 bytes"),
    ] {
        let address = serve_once(answer);
        let fetched = fetch(&[address], &[]);
        assert!(fetched.status.success(), "{expected}: {fetched:?}");
        assert_starts(&fetched, &address.to_string(), expected);
    }
}

#[test]
fn answers_that_break_the_rules_are_errors() {
    let too_patient = "HTTP/1.1 103 -\r\n\r\n".repeat(100);
    let endless_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000));
    let chunked = "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless_size = format!("{chunked}{}", "0".repeat(70_000));
    let endless_trailers = format!("{chunked}0\r\nX: {}", "x".repeat(70_000));
    for (answer, expected) in [
        ("", "the response ended too early"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "the response ended too early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "the response ended too early"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length \"-1\" is not a number"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: lzw\r\n\r\n", "unknown Transfer-Encoding \"lzw\""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "a chunk's size is not a number",
        ),
        ("HTTP/1.1 200 -\r\nContent-Length: +5\r\n\r\nhello", "Content-Length \"+5\" is not a"),
        ("HTTP/1.1 200 -\r\nContent-Length:\r\n\r\n", "Content-Length \"\" is not a number"),
        ("HTTP/1.1 200 -\r\nContent-Length: 5,6\r\n\r\nhello!", "several different"),
        (
            "HTTP/1.1 200 -\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "several different Content-Length",
        ),
        (
            "HTTP/1.1 200 -\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "Content-Length \"99999999999999999999\" is not",
        ),
        (
            "HTTP/1.1 200 -\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "both Transfer-Encoding and Content-Length",
        ),
        (
            "HTTP/1.0 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding in HTTP/1.0",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
            "a chunk is longer than its size",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "the response ended too early",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
            "the response ended too early",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
            "the answer is not HTTP",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
            "a chunk's size is not a number",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
            "several Transfer-Encoding",
        ),
        // An empty size is no last chunk.
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n\r\n",
            "a chunk's size is not a number",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n;a=b\r\n\r\n",
            "a chunk's size is not a number",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello",
            "a chunk's size is too large",
        ),
        // Others take the line feed for the end of the line.
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0;\n\r\n5\r\n\r\n",
            "a control character in the line of a chunk's size",
        ),
        (
            "HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n",
            "a control character in the line of a chunk's size",
        ),
        (endless_size.as_str(), "the line of a chunk's size is too long"),
        (endless_trailers.as_str(), "the response's trailers are too long"),
        ("HTTP/1.1 200 -\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unknown"),
        ("HTTP/1.1 200 -\r\nTransfer-Encoding:\r\n\r\n", "unknown Transfer-Encoding"),
        (too_patient.as_str(), "too many responses with status 1xx"),
        ("SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (endless_head.as_str(), "the response's head is too long"),
    ] {
        let address = serve_once(answer);
        let fetched = fetch(&[address], &[]);
        assert_eq!(fetched.status.code(), Some(1), "{expected}: {fetched:?}");
        assert_starts(&fetched, &address.to_string(), &format!("error: {expected}"));
    }
}

#[test]
fn another_protocol_that_was_not_asked_for_is_an_error_at_once() {
    let (listener, address) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = request(&listener);
        stream.write_all(b"HTTP/1.1 101 -\r\n\r\n").unwrap();
        // Nothing more is sent, and the connection stays open until the client closes it.
        matches!(stream.read(&mut [0]), Ok(0))
    });
    let fetched = fetch(&[address], &["--timeout", "never"]);
    assert_eq!(fetched.status.code(), Some(1), "{fetched:?}");
    assert_starts(&fetched, &address.to_string(), "error: status 101");
    assert!(server.join().unwrap());
}

#[test]
fn a_port_is_a_number_without_a_sign() {
    for (port, taken) in [(":", true), ("", true), (":80", true), (":0080", true)]
        .into_iter()
        .chain([":+9", ":-9", ":0", ":65536", ":9x", ": 9", "::80"].map(|port| (port, false)))
    {
        for host in ["http://no-such-host.invalid", "[::1]"] {
            // Only whether it is understood is of interest.
            let fetched = fetch(&[format!("{host}{port}/")], &["--timeout", "0.001"]);
            let refused = fetched.status.code() == Some(2);
            assert_eq!(refused, !taken, "{host}{port}: {fetched:?}");
        }
    }
    for host in ["[localhost]", "[::1", "::1", "a@b", "a\"b", "[::1]80", ":80", "[]"] {
        let fetched = fetch(&[format!("http://{host}/")], &["--timeout", "0.001"]);
        assert_eq!(fetched.status.code(), Some(2), "{host}: {fetched:?}");
    }
}

/// A name whose first address drops everything, and whose second one answers.
#[cfg(target_os = "linux")]
#[test]
fn a_dead_address_does_not_use_up_the_time_of_a_live_one() {
    if !rustix::process::geteuid().is_root() {
        return println!("left out: only root may give a process its own /etc/hosts");
    }
    let alive = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let port = alive.local_addr().unwrap().port();
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let dead_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    dead.bind(&dead_address.into()).unwrap();
    dead.listen(0).unwrap();
    // With its queue full, the kernel drops further attempts.
    let fillers: Vec<_> = (0..3)
        .map(|_| {
            let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let filler = filler.unwrap();
            filler.set_nonblocking(true).unwrap();
            let _ = filler.connect(&dead_address.into());
            filler
        })
        .collect();
    let directory = tempfile::TempDir::new().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 two\n127.0.0.2 two\n").unwrap();
    thread::spawn(move || {
        loop {
            let (mut stream, _) = request(&alive);
            let _ = stream.write_all(b"HTTP/1.1 200 -\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for driver in ["auto", "readiness"] {
        let mut command = std::process::Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(&hosts);
        command.arg(example("fetch_many").get_program());
        // One after the other, the first attempt would take all the time there is.
        let url = format!("http://two:{port}/");
        let fetched = finish(command.args([&url, "--timeout", "60"]).env("CORIO_DRIVER", driver));
        if fetched.stderr.contains("unshare: ") || fetched.stderr.contains("mount: ") {
            return println!("left out: no mount namespace here: {}", fetched.stderr);
        }
        assert!(fetched.status.success(), "{driver}: {fetched:?}");
        assert_starts(&fetched, &url, "200  0 bytes");
    }
    drop(fillers);
}

#[test]
fn a_body_up_to_the_limit_is_accepted_and_no_more() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n3\r\n345\r\n0\r\n\r\n",
    ] {
        let fits = fetch(&[serve_once(answer)], &["--limit", "5"]);
        assert!(fits.status.success(), "{answer}: {fits:?}");
        let address = serve_once(answer);
        let too_long = fetch(&[address], &["--limit", "4"]);
        assert_eq!(too_long.status.code(), Some(1), "{answer}: {too_long:?}");
        assert_starts(&too_long, &address.to_string(), "error: the body is longer");
    }
}

#[test]
fn the_request_says_what_was_asked_for() {
    for (suffix, path) in [("", "/"), ("/a?b=c#d", "/a?b=c"), ("?u=http://x/", "/?u=http://x/")] {
        let (listener, address) = listen();
        let server = thread::spawn(move || {
            let (mut stream, head) = request(&listener);
            stream.write_all(b"HTTP/1.1 204 -\r\n\r\n").unwrap();
            head
        });
        let fetched = fetch(&[format!("http://localhost:{}{suffix}", address.port())], &[]);
        assert!(fetched.status.success(), "{fetched:?}");
        let head = server.join().unwrap();
        let expected = format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n", address.port());
        assert!(head.starts_with(&expected), "{head}");
    }
}
