//! Parts of files.

use std::io::Write;

use super::site::Site;
use crate::harness::noise;

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
    for range in ["0-", "0-5", "-0", "0-,-0"] {
        let response = client.get_with("/empty", &format!("Range: bytes={range}\r\n")).expect(416);
        assert_eq!(response.field("content-range"), Some("bytes */0"));
    }
    // The end of an empty file is the file.
    for range in ["-1", "-5", "0-,-5", "-5,-5"] {
        let response = client.get_with("/empty", &format!("Range: bytes={range}\r\n")).expect(200);
        assert_eq!(response.field("content-range"), None);
        assert_eq!(response.text(), "");
    }
    client.get("/f").expect(200);
}

#[test]
fn ranges_whose_lengths_add_up_to_more_than_64_bits_are_more_than_the_file() {
    let Some(site) = Site::in_memory() else { return };
    let len = i64::MAX as u64;
    let file = std::fs::File::create(site.path("f")).unwrap();
    if let Err(error) = file.set_len(len) {
        return println!("left out: no file can be that long: {error}");
    }
    for range in ["0-,0-", "0-,0-,0-", "1-,2-,3-", "-9223372036854775807,1-,2-,3-"] {
        let mut client = site.connect();
        client.request("GET", "/f", &format!("Range: bytes={range}\r\n"));
        let head = client.response_head().expect(200);
        assert_eq!(head.field("content-length"), Some(&*len.to_string()), "{range}");
    }
    // These have at most as many bytes as the file.
    let mut client = site.connect();
    client.request("GET", "/f", "Range: bytes=-2,0-9223372036854775803\r\n");
    client.response_head().expect(206);
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
