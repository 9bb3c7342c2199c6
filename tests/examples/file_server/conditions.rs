//! Conditional requests.

use std::fs;
use std::time::{Duration, SystemTime};

use super::site::Site;

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
        // The tag decides if both are given.
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
    // Dated in the future, so that its second has certainly not passed.
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
