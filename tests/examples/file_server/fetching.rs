//! Fetching files: bodies, common fields, connections, and unusual forms of requests.

use std::fs;

use super::http::TIME_LIMIT;
use super::site::Site;
use crate::harness::noise;

#[test]
fn bodies_arrive_byte_for_byte_on_one_connection() {
    let site = Site::new(&[]);
    let mut client = site.connect();
    // Around the limits between reading and sendfile, and beyond a socket's buffers.
    for len in [0, 1, 4096, 16 << 10, (16 << 10) + 1, 100_000, 3 << 20, 20 << 20] {
        let name = format!("file{len}");
        let contents = noise(len);
        site.file(&name, &contents);
        let response = client.get(&format!("/{name}")).expect(200);
        assert_eq!(response.field("content-length"), Some(&*len.to_string()));
        assert!(response.body == contents, "the body of {len} bytes differs");
        assert_eq!(response.field("connection"), None);
    }
}

#[test]
fn head_gives_the_same_fields_and_no_body() {
    let site = Site::new(&[]);
    site.file("a.txt", noise(5000));
    site.file("big", noise(1 << 20));
    let mut client = site.connect();
    for target in ["/a.txt", "/big", "/missing", "/"] {
        let get = client.get(target);
        let head = client.head(target, "");
        let without_date = |head: &str| {
            head.split("\r\n").filter(|line| !line.starts_with("Date:")).collect::<String>()
        };
        assert_eq!(without_date(&head.head), without_date(&get.head), "{target}");
    }
    // Ranges are for GET.
    assert_eq!(client.head("/a.txt", "Range: bytes=0-1\r\n").status, 200);
    client.get("/a.txt").expect(200);
}

#[test]
fn common_fields_are_there() {
    let site = Site::new(&[]);
    for (name, mime) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("a.wasm", "application/wasm"),
        ("a.nothing-known", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ] {
        site.file(name, "x");
        let response = site.get(&format!("/{name}")).expect(200);
        assert_eq!(response.field("content-type"), Some(mime), "{name}");
        let date = httpdate::parse_http_date(response.field("date").unwrap()).unwrap();
        assert!(date.elapsed().unwrap_or_default() < TIME_LIMIT);
        let modified = fs::metadata(site.path(name)).unwrap().modified().unwrap();
        assert_eq!(response.field("last-modified"), Some(&*httpdate::fmt_http_date(modified)));
        assert_eq!(response.field("accept-ranges"), Some("bytes"));
        assert!(response.field("etag").unwrap().starts_with('"'));
    }
}

#[test]
fn connections_persist_as_the_version_and_the_client_say() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    for (head, persists, says) in [
        ("GET /f HTTP/1.1\r\nHost: x\r\n\r\n", true, None),
        ("GET /f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false, Some("close")),
        ("GET /f HTTP/1.1\r\nHost: x\r\nConnection: foo, ClosE\r\n\r\n", false, Some("close")),
        ("GET /f HTTP/1.0\r\n\r\n", false, Some("close")),
        ("GET /f HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, Some("keep-alive")),
    ] {
        let (response, mut client) = site.raw(head);
        let response = response.expect(200);
        assert_eq!((response.text(), response.field("connection")), ("hello", says), "{head}");
        if persists {
            assert_eq!(client.get("/f").text(), "hello");
        } else {
            client.expect_end();
        }
    }
}

#[test]
fn the_absolute_form_of_a_target_is_understood() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let mut client = site.connect();
    assert_eq!(client.get("http://example.org/f?x").expect(200).text(), "hello");
    client.get("http://example.org").expect(200);
    client.get("ftp://example.org/f").expect(400);
    client.get("*").expect(400);
}

#[test]
fn sixteen_requests_in_one_segment_are_answered_in_order() {
    let site = Site::new(&[]);
    let sizes = [0, 10, 5000, 20_000, 1, 300_000, 16_384, 7];
    for (index, len) in sizes.iter().enumerate() {
        site.file(&format!("f{index}"), noise(*len));
    }
    let order = (0..16).map(|index| index * 5 % sizes.len());
    let requests: String =
        order.clone().map(|index| format!("GET /f{index} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let mut client = site.connect();
    for _ in 0..3 {
        client.send(&requests);
        for index in order.clone() {
            assert!(client.response().expect(200).body == noise(sizes[index]));
        }
    }
    // `Connection: close` ends a pipeline: later requests in it are not answered.
    client.send("GET /f0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned() + &requests);
    client.response().expect(200);
    client.expect_end();
}

#[test]
fn a_request_may_be_split_anywhere() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let request = b"\r\nGET /f HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n";
    let (mut client, mut other) = (site.connect(), site.connect());
    for at in 0..=request.len() {
        client.send(&request[..at]);
        // Once this is answered, the server has seen the first part, too.
        other.get("/f").expect(200);
        client.send(&request[at..]);
        assert_eq!(client.response().expect(200).text(), "hello");
    }
    // All of them at once, byte by byte.
    for byte in request {
        client.send([*byte]);
        other.get("/f").expect(200);
    }
    assert_eq!(client.response().expect(200).text(), "hello");
}

#[test]
fn a_client_that_has_ended_its_side_is_answered() {
    let site = Site::new(&[]);
    site.file("big", noise(3 << 20));
    let mut client = site.connect();
    client.request("GET", "/big", "").request("GET", "/big", "");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..2 {
        assert!(client.response().expect(200).body == noise(3 << 20));
    }
    client.expect_end();
}
