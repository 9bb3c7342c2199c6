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

/// Sets the times of a file as programs do that restore files.
fn set_modified(site: &Site, name: &str, time: SystemTime) {
    fs::File::options().write(true).open(site.path(name)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_tag_changes_with_the_content_though_length_and_modification_time_stay() {
    let site = Site::new(&[]);
    let restored = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let put = |text: &str| {
        site.file("f", text);
        set_modified(&site, "f", restored);
    };
    let mut client = site.connect();
    // Some of the changes follow within one tick of the kernel's clock.
    for _ in 0..20 {
        put("hello");
        let first = client.get("/f").expect(200);
        assert_eq!(first.field("last-modified"), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
        let tag = first.field("etag").unwrap();
        put("jello");
        let fields = format!("If-None-Match: {tag}\r\n");
        assert_eq!(client.get_with("/f", &fields).expect(200).text(), "jello");
        let fields = format!("Range: bytes=1-\r\nIf-Range: {tag}\r\n");
        assert_eq!(client.get_with("/f", &fields).expect(200).text(), "jello");
        client.get_with("/f", &format!("If-Match: {tag}\r\n")).expect(412);
    }
    let tag = client.get("/f").field("etag").unwrap().to_owned();
    client.get_with("/f", &format!("If-None-Match: {tag}\r\n")).expect(304);
}

#[test]
fn times_that_no_http_date_can_say_are_not_said() {
    const YEAR_9999_ENDS: i64 = 253_402_300_800;
    let Some(site) = Site::in_memory() else { return };
    site.file("f", "hello");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut client = site.connect();
    for seconds in [
        i64::MIN / 2,
        -1,
        0,
        now - 100,
        now + 3600,
        YEAR_9999_ENDS - 1,
        YEAR_9999_ENDS,
        300_000_000_000,
        i64::MAX / 2,
    ] {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = match seconds < 0 {
            true => SystemTime::UNIX_EPOCH - distance,
            false => SystemTime::UNIX_EPOCH + distance,
        };
        set_modified(&site, "f", time);
        for response in [client.get("/f").expect(200), client.head("/f", "").expect(200)] {
            let date = |name| httpdate::parse_http_date(response.field(name).unwrap()).unwrap();
            let modified = date("last-modified");
            assert!(modified <= date("date"), "{seconds}: {}", response.head);
            let past = (0..now).contains(&seconds);
            assert!(!past || modified == time, "{seconds}: {}", response.head);
        }
        // A date of then says nothing about a file whose time lies ahead.
        let earlier = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(50));
        let fields = format!("If-Modified-Since: {earlier}\r\n");
        client.get_with("/f", &fields).expect(if seconds > now { 200 } else { 304 });
        client.get("/").expect(200);
    }
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
