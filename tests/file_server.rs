//! The example `file_server`, byte by byte, over real connections.
//!
//! # Why this file has `unsafe`
//! It makes a pipe in the file system, for which `std` has no function.

#[path = "support/file_server.rs"]
mod file_server;
#[path = "support/http.rs"]
mod http;

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use file_server::{Site, executable, run};
use http::{Client, PATIENCE};

/// Bytes without a pattern, always the same for a length.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

// ---- Plain fetching ----

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
        assert!(date.elapsed().unwrap_or_default() < PATIENCE);
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
    // The last of a pipeline closes; what comes after it is not answered.
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
        // Once this is answered, the server has looked at the first part, too.
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

// ---- Ranges ----

#[test]
fn single_ranges_give_their_part() {
    let site = Site::new(&[]);
    let contents = noise(100_000);
    site.file("f", &contents);
    let mut client = site.connect();
    for (range, first, last) in [
        ("0-0", 0, 0),
        ("0-99999", 0, 99_999),
        ("5-9", 5, 9),
        ("99999-", 99_999, 99_999),
        ("20000-", 20_000, 99_999),
        ("50-1000000", 50, 99_999),
        ("50-99999999999999999999999", 50, 99_999),
        ("-1", 99_999, 99_999),
        ("-30000", 70_000, 99_999),
        ("-200000", 0, 99_999),
        (" 7-8 ", 7, 8),
        (",7-8,", 7, 8),
        ("7-8,100000-", 7, 8),
    ] {
        let response = client.get_with("/f", &format!("Range: bytes={range}\r\n")).expect(206);
        let content_range = format!("bytes {first}-{last}/100000");
        assert_eq!(response.field("content-range"), Some(&*content_range), "{range}");
        assert!(response.body == contents[first..=last], "{range}");
    }
}

#[test]
fn malformed_ranges_are_ignored_and_impossible_ones_refused() {
    let site = Site::new(&[]);
    let contents = noise(1000);
    site.file("f", &contents);
    site.file("empty", "");
    let mut client = site.connect();
    for range in [
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5",
        "bytes=9-5",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=--5",
        "lines=1-2",
        "bytes 1-2",
        "bytes=1-2,x",
        "bytes=0-999,0-999",
    ] {
        let response = client.get_with("/f", &format!("Range: {range}\r\n")).expect(200);
        assert!(response.body == contents, "{range}");
    }
    let twice = "Range: bytes=1-2\r\nRange: bytes=3-4\r\n";
    client.get_with("/f", twice).expect(200);
    let many = (0..100).map(|at| format!("{at}-{at},")).collect::<String>();
    client.get_with("/f", &format!("Range: bytes={many}\r\n")).expect(200);
    for range in ["1000-", "1000-2000", "-0", "99999999999999999999-", "1000-,2000-"] {
        let response = client.get_with("/f", &format!("Range: bytes={range}\r\n")).expect(416);
        assert_eq!(response.field("content-range"), Some("bytes */1000"), "{range}");
    }
    for range in ["0-", "-5"] {
        let response = client.get_with("/empty", &format!("Range: bytes={range}\r\n")).expect(416);
        assert_eq!(response.field("content-range"), Some("bytes */0"));
    }
    client.get("/f").expect(200);
}

#[test]
fn several_ranges_come_as_parts_of_one_body() {
    let site = Site::new(&[]);
    let contents = noise(200_000);
    site.file("f.png", &contents);
    let mut client = site.connect();
    for _ in 0..2 {
        let response = client
            .get_with("/f.png", "Range: bytes=0-4, 100000-149999, 100000-100000, -3, 500000-\r\n")
            .expect(206);
        let content_type = response.field("content-type").unwrap();
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut expected = Vec::new();
        for (first, last) in [(0, 4), (100_000, 149_999), (100_000, 100_000), (199_997, 199_999)] {
            write!(
                expected,
                "\r\n--{boundary}\r\nContent-Type: image/png\r\n\
                 Content-Range: bytes {first}-{last}/200000\r\n\r\n"
            )
            .unwrap();
            expected.extend_from_slice(&contents[first..=last]);
        }
        write!(expected, "\r\n--{boundary}--\r\n").unwrap();
        assert!(response.body == expected);
    }
}

// ---- Conditions ----

#[test]
fn conditions_spare_what_the_client_has() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let mut client = site.connect();
    let first = client.get("/f");
    let etag = first.field("etag").unwrap().to_owned();
    let modified = first.field("last-modified").unwrap().to_owned();
    let date = httpdate::parse_http_date(&modified).unwrap();
    let earlier = httpdate::fmt_http_date(date - Duration::from_secs(1));
    let later = httpdate::fmt_http_date(date + Duration::from_secs(1));
    for (fields, status) in [
        (format!("If-None-Match: {etag}\r\n"), 304),
        (format!("If-None-Match: W/{etag}\r\n"), 304),
        (format!("If-None-Match: \"a,b\", W/\"c\" , {etag}\r\n"), 304),
        (format!("If-None-Match: \"a\"\r\nIf-None-Match: {etag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"other\"\r\n".into(), 200),
        ("If-None-Match: nonsense\r\n".into(), 200),
        (format!("If-None-Match: x{etag}\r\n"), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Modified-Since: {later}\r\n"), 304),
        (format!("If-Modified-Since: {earlier}\r\n"), 200),
        ("If-Modified-Since: nonsense\r\n".into(), 200),
        // The tag decides where both are given.
        (format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {later}\r\n"), 200),
        (format!("If-None-Match: {etag}\r\nIf-Modified-Since: {earlier}\r\n"), 304),
        (format!("If-None-Match: {etag}\r\nRange: bytes=0-0\r\n"), 304),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: *\r\n".into(), 200),
        ("If-Match: \"other\"\r\n".into(), 412),
        (format!("If-Match: W/{etag}\r\n"), 412),
        (format!("If-Unmodified-Since: {modified}\r\n"), 200),
        (format!("If-Unmodified-Since: {earlier}\r\n"), 412),
    ] {
        let response = client.get_with("/f", &fields);
        assert_eq!(response.status, status, "{fields}");
        if status == 304 {
            assert_eq!(response.field("etag"), Some(&*etag));
            assert_eq!(response.field("content-length"), None);
        }
    }
    // A change of one byte, of the same length, in the same second perhaps.
    site.file("f", "jello");
    let response = client.get_with("/f", &format!("If-None-Match: {etag}\r\n")).expect(200);
    assert_ne!(response.field("etag"), Some(&*etag));
}

#[test]
fn if_range_guards_against_mixing_two_versions() {
    let site = Site::new(&[]);
    site.file("f", "hello");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(site.path("f")).unwrap().set_modified(hour_ago).unwrap();
    site.file("new", "hello");
    // Dated ahead, so that its second is certainly not over.
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(site.path("new")).unwrap().set_modified(ahead).unwrap();
    let mut client = site.connect();
    let first = client.get("/f");
    let etag = first.field("etag").unwrap();
    let modified = first.field("last-modified").unwrap();
    let later = httpdate::fmt_http_date(hour_ago + Duration::from_secs(5));
    for (value, status) in [
        (etag, 206),
        (&*format!("W/{etag}"), 200),
        ("\"other\"", 200),
        (modified, 206),
        (&*later, 200),
        ("nonsense", 200),
    ] {
        let fields = format!("Range: bytes=1-3\r\nIf-Range: {value}\r\n");
        let response = client.get_with("/f", &fields).expect(status);
        assert_eq!(response.text(), if status == 206 { "ell" } else { "hello" }, "{value}");
    }
    let modified = httpdate::fmt_http_date(ahead);
    let fields = format!("Range: bytes=1-3\r\nIf-Range: {modified}\r\n");
    client.get_with("/new", &fields).expect(200);
}

// ---- Paths ----

#[test]
fn names_are_decoded() {
    let site = Site::new(&[]);
    site.file("a b/ü?#%.txt", "odd");
    site.file("plain", "plain");
    let mut client = site.connect();
    for target in [
        "/a%20b/%C3%BC%3F%23%25.txt",
        "/a%20b%2f%c3%bc%3f%23%25.txt?query#fragment",
        "//a%20b//%C3%BC%3F%23%25.txt",
        "/./a%20b/.//%C3%BC%3F%23%25.txt",
        "/x/../a%20b/y/z/../../%C3%BC%3F%23%25.txt",
        "/%61%20b/%2e/%C3%BC%3F%23%25.txt",
    ] {
        assert_eq!(client.get(target).expect(200).text(), "odd", "{target}");
    }
    for target in ["/pl%", "/pl%4", "/pl%4g", "/pl%00ain", "/plain%00", "/%"] {
        client.get(target).expect(400);
    }
    client.get("/plain/").expect(404);
    client.get("/plain/x").expect(404);
    client.get("/plain/..").expect(200);
    client.get("/Plain").expect(404);
    client.get(&format!("/{}", "x".repeat(300))).expect(404);
}

#[test]
fn nothing_leads_out_of_the_root() {
    for options in [&[][..], &["--no-symlinks"]] {
        let site = Site::new(options);
        site.file("d/inside", "inside");
        site.link("out", "../secret");
        site.link("out_absolute", "/etc/passwd");
        site.link("out_dir", "..");
        site.link("d/out_by_two", "../out");
        site.link("magic", "/proc/self/cwd");
        site.link("loop", "loop");
        let mut client = site.connect();
        for target in [
            "/../secret",
            "/d/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/.%2e/secret",
            "/d/..%2f..%2fsecret",
            "/..",
            "/d/../..",
            "/../www/d/inside",
        ] {
            client.get(target).expect(400);
        }
        for target in ["/..%5csecret", "/...", "/.../secret", "/%252e%252e/secret", "/..;/secret"] {
            client.get(target).expect(404);
        }
        for target in [
            "/out",
            "/out_absolute",
            "/out_dir",
            "/out_dir/",
            "/out_dir/secret",
            "/d/out_by_two",
            "/magic/",
            "/loop",
        ] {
            let response = client.get(target);
            assert!(matches!(response.status, 403 | 404), "{target}: {}", response.head);
            assert!(!response.text().contains("secret"), "{target}");
        }
        let page = client.get("/").expect(200);
        assert!(!page.text().contains("out") && page.text().contains("href=\"d/\""));
        client.get("/d/inside").expect(200);
    }
}

#[test]
fn links_that_stay_inside_are_followed_unless_unwanted() {
    for (options, status) in [(&[][..], 200), (&["--no-symlinks"][..], 403)] {
        let site = Site::new(options);
        site.file("d/inside", "inside");
        site.link("to_file", "d/inside");
        site.link("d/up_and_down", "../d/inside");
        site.link("twice", "to_file");
        site.link("absolute", site.path("d").join("inside").canonicalize().unwrap());
        let mut client = site.connect();
        for target in ["/to_file", "/d/up_and_down", "/twice", "/absolute"] {
            let response = client.get(target).expect(status);
            assert!(status != 200 || response.text() == "inside", "{target}");
        }
        site.link("to_dir", "d");
        site.link("to_root", ".");
        let status = if status == 200 { 200 } else { 404 };
        client.get("/to_dir/inside").expect(status);
        client.get("/to_root/d/inside").expect(status);
        client.get("/d/inside").expect(200);
        let listed = client.get("/").expect(200).text().contains("to_file");
        assert_eq!(listed, status == 200);
    }
}

#[test]
fn directories_show_their_index_or_a_listing() {
    let site = Site::new(&[]);
    site.file("with/index.html", "<p>index");
    site.file("without/f", "x");
    fs::create_dir_all(site.path("strange/index.html")).unwrap();
    let mut client = site.connect();
    let response = client.get("/with/").expect(200);
    assert_eq!(response.text(), "<p>index");
    assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    for (target, location) in [
        ("/with", "/with/"),
        ("/with?a=b", "/with/?a=b"),
        ("//with", "/with/"),
        ("/./without/../with", "/with/"),
    ] {
        let response = client.get(target).expect(301);
        assert_eq!(response.field("location"), Some(location));
    }
    let response = client.get("/without/").expect(200);
    assert!(response.text().contains("<a href=\"f\">f</a>"));
    client.get("/strange/").expect(403);
    site.link("linked_index", "with");
    assert_eq!(client.get("/linked_index/").expect(200).text(), "<p>index");
}

/// The targets of all links in a page.
fn links(page: &str) -> Vec<&str> {
    let after = page.split("href=\"").skip(1);
    after.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_listing_can_be_clicked_through() {
    let site = Site::new(&[]);
    let odd = ["a&b <i>\"'.txt", "100%.txt", "ü ? #", "a:b", "-", "x\ny", "%2e%2e"];
    for name in odd {
        site.file(&format!("zdir & co/{name}"), name);
    }
    site.file("zdir & co/Sub/f", "x");
    site.file("zdir & co/large", noise(1_500_000));
    site.file("afile", "x");
    let mut client = site.connect();

    let top = client.get("/").expect(200);
    assert_eq!(links(top.text()), ["/", "zdir%20%26%20co/", "afile"]);
    let target = format!("/{}", links(top.text())[1]);
    let page = client.get(&target).expect(200);
    let text = page.text();
    assert!(text.contains("a&amp;b &lt;i&gt;&quot;&#39;.txt") && !text.contains("<i>"));
    assert!(text.contains("1.4 MiB") && text.contains(">/zdir &amp; co<"));

    let listed = links(text);
    assert_eq!(listed[..4], ["/", "/zdir%20%26%20co/", "../", "Sub/"]);
    let mut names: Vec<_> = odd.iter().copied().chain(["large"]).collect();
    names.sort_unstable();
    for (link, name) in listed[4..].iter().zip(&names) {
        let body = client.get(&format!("{target}{link}")).expect(200).body;
        assert!(*name == "large" || body == name.as_bytes(), "{link}");
    }
    assert_eq!(listed.len(), 4 + names.len());
    client.get(listed[1]).expect(200);
    client.get(&format!("{target}Sub/")).expect(200);
    client.get(&format!("{target}../")).expect(200);

    // The date is that of the system's own tool.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(951_827_696);
    fs::File::options().write(true).open(site.path("afile")).unwrap().set_modified(old).unwrap();
    assert!(client.get("/").text().contains("2000-02-29 12:34"));
}

#[test]
fn what_is_no_readable_file_is_forbidden() {
    let site = Site::new(&[]);
    let path = std::ffi::CString::new(site.path("pipe").to_str().unwrap()).unwrap();
    // SAFETY: the path ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    let mut client = site.connect();
    client.get("/pipe").expect(403);
    client.get("/socket").expect(403);
    client.get("/").expect(200);

    let programs = tempfile::tempdir().unwrap();
    let Some(command) = file_server::as_nobody(programs.path()) else { return };
    let site = Site::with(command, &[], |dir| {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode;
        fs::set_permissions(dir, mode(0o755)).unwrap();
        fs::write(dir.join("www/unreadable"), "x").unwrap();
        fs::set_permissions(dir.join("www/unreadable"), mode(0)).unwrap();
        fs::create_dir(dir.join("www/closed")).unwrap();
        fs::set_permissions(dir.join("www/closed"), mode(0)).unwrap();
    });
    let mut client = site.connect();
    client.get("/unreadable").expect(403);
    client.get("/closed/").expect(403);
    client.get("/closed/x").expect(403);
    assert!(client.get("/").expect(200).text().contains("unreadable"));
}

// ---- What is refused ----

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
        // A body that is not taken must not be taken for a request.
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

// ---- Limits ----

#[test]
fn a_head_that_does_not_end_is_timed_out_even_if_it_trickles() {
    let site = Site::new(&["--header-timeout", "0.3"]);
    let (response, mut client) = site.raw("GET / HTTP/1.1\r\n");
    assert_eq!(response.expect(408).field("connection"), Some("close"));
    client.expect_end();

    let mut client = site.connect();
    let mut writer = client.stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    });
    client.response().expect(408);
    drop(client);
    // The server does not listen to it for ever either.
    assert!(trickle.join().unwrap() < PATIENCE);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let site = Site::new(&["--idle-timeout", "1"]);
    site.connect().expect_end();
    let mut client = site.connect();
    client.get("/").expect(200);
    client.expect_end();
}

#[test]
fn connections_beyond_the_limit_are_told() {
    let site = Site::new(&["--max-connections", "2"]);
    site.file("f", "hello");
    let mut clients = [site.connect(), site.connect()];
    for client in &mut clients {
        client.get("/f").expect(200);
    }
    let mut third = site.connect();
    assert_eq!(third.response().expect(503).field("retry-after"), Some("1"));
    third.expect_end();
    // Those that are in stay in.
    for client in &mut clients {
        client.get("/f").expect(200);
    }
    drop(clients);
    until_served(&site);
}

/// Tries until a new connection is served.
fn until_served(site: &Site) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = site.connect();
        let _ = client.stream.write_all(b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
        if client.first_bytes(12).is_ok_and(|bytes| bytes == b"HTTP/1.1 200") {
            client.response().expect(200);
            return client;
        }
        assert!(Instant::now() < deadline, "connections are still refused");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn running_out_of_file_descriptors_passes() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 24; exec \"$0\" \"$@\""]).arg(executable());
    let site = Site::by(command, &[]);
    site.file("f", "hello");
    let mut first = site.connect();
    first.get("/f").expect(200);
    let crowd: Vec<Client> = (0..40).map(|_| site.connect()).collect();
    // Files need descriptors, too; what can't be opened now is answered nevertheless.
    for _ in 0..20 {
        let status = first.get("/f").status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
    drop(crowd);
    until_served(&site);
    first.get("/f").expect(200);
}

// ---- Difficult peers ----

#[test]
fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    let site = Site::new(&[]);
    let contents = noise(3 << 20);
    site.file("big", &contents);
    site.file("f", "hello");
    let mut slow = Client::connect_narrow(site.address);
    slow.request("GET", "/big", "Connection: close\r\n");
    slow.response_head().expect(200);
    let mut quick = site.connect();
    let mut received = slow.buffered();
    let mut chunk = [0; 5000];
    loop {
        quick.get("/f").expect(200);
        match slow.stream.read(&mut chunk).unwrap() {
            0 => break,
            len => received.extend_from_slice(&chunk[..len]),
        }
    }
    assert!(received == contents);
}

#[test]
fn a_reader_that_stops_is_dropped_and_one_that_goes_on_is_not() {
    let site = Site::new(&["--write-timeout", "2", "--max-connections", "2"]);
    let contents = noise(32 << 20);
    site.file("big", &contents);
    site.file("f", "hello");
    // Takes longer than the limit for the whole, but never stands still.
    let mut steady = Client::connect_narrow(site.address);
    steady.request("GET", "/big", "Connection: close\r\n");
    steady.response_head().expect(200);
    let mut stopped = Client::connect_narrow(site.address);
    stopped.request("GET", "/big", "");
    stopped.response_head().expect(200);

    let start = Instant::now();
    let mut received = steady.buffered();
    let mut chunk = vec![0; 128 << 10];
    while received.len() < contents.len() {
        if start.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let len = steady.stream.read(&mut chunk).unwrap();
        assert!(len > 0, "ended after {} bytes", received.len());
        received.extend_from_slice(&chunk[..len]);
    }
    assert!(received == contents);
    steady.expect_end();
    drop(steady);
    // There are two places again only once the one that stopped has been dropped.
    let _places = [until_served(&site), until_served(&site)];
    let rest = stopped.rest();
    assert!(rest.is_err() || rest.is_ok_and(|rest| rest.len() < contents.len()));
}

#[test]
fn a_reset_costs_nothing_but_its_own_connection() {
    let site = Site::new(&[]);
    site.file("big", noise(20 << 20));
    site.file("f", "hello");
    let mut other = site.connect();
    for _ in 0..10 {
        let mut client = Client::connect_narrow(site.address);
        client.request("GET", "/big", "").response_head().expect(200);
        client.reset();
        assert_eq!(other.get("/f").expect(200).text(), "hello");
    }
    assert!(other.get("/big").expect(200).body == noise(20 << 20));
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    const LEN: u64 = 256 << 20;
    const LEFT: u64 = 96 << 20;
    let site = Site::new(&[]);
    let file = fs::File::create(site.path("big")).unwrap();
    file.set_len(LEN).unwrap();
    site.file("f", "hello");
    let mut client = Client::connect_narrow(site.address);
    let response = client.request("GET", "/big", "").response_head().expect(200);
    assert_eq!(response.field("content-length"), Some(&*LEN.to_string()));
    // No socket buffers take that much, so the server has not come this far.
    file.set_len(LEFT).unwrap();
    let mut received = client.buffered().len() as u64;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match client.stream.read(&mut chunk).unwrap() {
            0 => break,
            len => received += len as u64,
        }
    }
    assert_eq!(received, LEFT);
    site.get("/f").expect(200);
}

// ---- The program ----

#[test]
fn signals_end_it_in_good_order_with_transfers_under_way() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        assert_eq!(Site::new(&[]).signal(signal).code(), Some(0));

        let site = Site::new(&[]);
        site.file("big", noise(20 << 20));
        site.file("f", "hello");
        let mut transfers = Vec::new();
        for _ in 0..5 {
            let mut client = Client::connect_narrow(site.address);
            client.request("GET", "/big", "").response_head().expect(200);
            transfers.push(client);
        }
        let mut idle = site.connect();
        idle.get("/f").expect(200);
        let mut begun = site.connect();
        begun.send("GET /f HT");
        let fresh = site.connect();
        idle.get("/f").expect(200);
        assert_eq!(site.signal(signal).code(), Some(0));
        idle.expect_end();
        drop((transfers, begun, fresh));
    }
}

#[test]
fn the_log_has_a_line_per_request() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(executable());
    command.stderr(log.reopen().unwrap());
    let site = Site::by(command, &["--log"]);
    site.file("f", "hello");
    let mut client = site.connect();
    let peer = client.stream.local_addr().unwrap();
    client.get("/f?x").expect(200);
    client.get("/missing").expect(404);
    client.send("nonsense\r\n\r\n").response().expect(400);
    assert_eq!(site.signal(libc::SIGTERM).code(), Some(0));
    let text = fs::read_to_string(log.path()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("{peer} /f?x 200 5"));
    assert!(lines[1].starts_with(&format!("{peer} /missing 404 ")));
    assert!(lines[2].starts_with(&format!("{peer} - 400 ")));
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_command_line_is_explained_and_checked() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for word in ["ROOT", "--addr", "127.0.0.1:8080", "--idle-timeout", "--max-connections", "--log"]
    {
        assert!(text.contains(word), "{word} is not in the help:\n{text}");
    }
    for wrong in [
        &["/nonexistent/directory"][..],
        &["Cargo.toml"],
        &[".", "--addr", "nonsense"],
        &[".", "--idle-timeout", "0"],
        &[".", "--idle-timeout", "-1"],
        &[".", "--max-header", "1"],
        &[".", "--unknown"],
    ] {
        let output = run(wrong);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&[".", "--addr", &address]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains(&address));
    let site = Site::new(&[]);
    assert!(!run(&[".", "--addr", &site.address.to_string()]).status.success());
}
