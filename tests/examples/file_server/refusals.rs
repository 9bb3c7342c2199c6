//! Requests that the server refuses.

use std::io::Write;

use super::site::Site;
use crate::harness::noise;

#[test]
fn bad_requests_are_answered_and_end_the_connection() {
    let site = Site::new(&["--max-header", "2048", "--max-uri", "512"]);
    site.file("f", "hello");
    let many = "A: b\r\n".repeat(200);
    for (request, status) in [
        ("POST /f HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
        ("DELETE /f HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405),
        ("POST /f HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".into(), 405),
        ("BREW /f HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
        ("get /f HTTP/1.1\r\nHost: x\r\n\r\n".into(), 501),
        ("GET /f HTTP/2.0\r\nHost: x\r\n\r\n".into(), 505),
        ("GET /f HTTP/1.2\r\nHost: x\r\n\r\n".into(), 505),
        ("GET /f HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.0\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET /f\r\n\r\n".into(), 400),
        ("GET /f FTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost : x\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n".into(), 400),
        ("\u{1}\u{2}\u{3}".into(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0".into(), 400),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(600)), 414),
        (format!("GET /{}", "x".repeat(600)), 414),
        (format!("GET /f HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(3000)), 431),
        (format!("GET /f HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(100_000)), 431),
        (format!("GET /f HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
        // A body that is not read must not be parsed as a request.
        ("GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".into(), 413),
        ("GET /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 413),
        (
            "GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n".into(),
            400,
        ),
        ("GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n".into(), 400),
        ("GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n".into(), 400),
        (
            "GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
                .into(),
            400,
        ),
        ("GET /f HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
    ] {
        let request: String = request;
        // A second request follows, as if smuggled: it must not be answered.
        let smuggled = "GET /f HTTP/1.1\r\nHost: x\r\n\r\n";
        let complete = request.ends_with("\r\n\r\n") || request.ends_with("abc");
        let bytes = if complete { request.clone() + smuggled } else { request.clone() };
        let (response, mut client) = site.raw(bytes);
        let shown: String = request.chars().take(100).collect();
        assert_eq!(response.status, status, "{shown:?}");
        assert_eq!(response.field("connection"), Some("close"), "{shown:?}");
        assert_eq!(response.field("allow"), (status == 405).then_some("GET, HEAD"));
        assert!(response.text().contains(&status.to_string()));
        client.expect_end();
    }
    site.get("/f").expect(200);
}

#[test]
fn hosts_are_as_the_standard_says() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    for host in [
        "a b",
        "x/y",
        "x?",
        "x#y",
        "u@x",
        "u:p@x",
        "x,y",
        "x\\y",
        "x<y",
        "\"x\"",
        "x:80x",
        "x:-1",
        "x:8:0",
        "::1",
        "[::1",
        "[::1]80",
        "[::1]x:80",
        "[]",
        "[:1]",
        "[127.0.0.1]",
        "[fe80::1%eth0]",
        "[v1]",
        "[v.x]",
        "x]",
        "x%",
        "x%4",
        "x%4g",
        "h\u{f6}st",
    ] {
        let (response, mut client) = site.raw(format!("GET /f HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.status, 400, "{host}");
        client.expect_end();
    }
    for host in [
        "",
        "x",
        "x:",
        ":80",
        "x:80",
        "a.b-c_d~",
        "x%41",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:80",
        "[::ffff:1.2.3.4]:",
        "[v1.a:b]",
    ] {
        let request = format!("GET /f HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(site.raw(request).0.status, 200, "{host}");
    }
}

#[test]
fn uris_are_as_the_standard_says() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let mut client = site.connect();
    for target in
        ["http://h/f", "HTTP://h:80/f?q", "http://[::1]:/f", "/f", "http://h", "http://h?q"]
    {
        client.get(target).expect(200);
    }
    for target in [
        "http:///f",
        "http://",
        "http://:80/f",
        "http://u@h/f",
        "http://u:p@h/f",
        "http://@h/f",
        "http://h:x/f",
        "http://[::1/f",
        "http://a,b/f",
        "http://h%/f",
        "http:/f",
        "https://h/f",
        "ftp://h/f",
        "f",
        "*",
        "/f#",
        "http://h/f#g",
        "http://h#/f",
    ] {
        assert_eq!(client.get(target).status, 400, "{target}");
    }
}

#[test]
fn an_empty_body_is_no_body() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let mut client = site.connect();
    client.get_with("/f", "Content-Length: 0\r\n").expect(200);
    client.get_with("/f", "Content-Length: 000\r\n").expect(200);
}

#[test]
fn a_refused_upload_does_not_lose_its_answer() {
    let site = Site::new(&[]);
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n");
    client.send(noise(500_000));
    client.response().expect(405);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn errors_to_head_have_no_body() {
    let site = Site::new(&[]);
    let mut client = site.connect();
    assert_eq!(client.head("/missing", "").status, 404);
    assert_eq!(client.head("/missing", "").status, 404);
    assert_eq!(client.head("/", "Content-Length: 5\r\n").status, 413);
    client.expect_end();
    // Empty lines may come first.
    let mut client = site.connect();
    let response = client.send("\r\n\nHEAD / HTTP/1.1\r\n\r\n").response_head();
    assert_eq!(response.status, 400);
    client.expect_end();
}

#[test]
fn garbage_of_every_kind_leaves_the_server_standing() {
    let site = Site::new(&["--header-timeout", "0.5"]);
    site.file("f", "hello");
    for round in 0..40 {
        let mut client = site.connect();
        let mut bytes = noise(1 + round * 97);
        if round % 2 == 0 {
            bytes.splice(..0, *b"GET /f HTTP/1.1\r\nHost: x\r\n");
        }
        // The server may have closed before all is sent.
        let _ = client.stream.write_all(&bytes);
        if round % 3 == 0 {
            client.reset();
        } else {
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            let _ = client.rest();
        }
    }
    assert_eq!(site.get("/f").expect(200).text(), "hello");
}
