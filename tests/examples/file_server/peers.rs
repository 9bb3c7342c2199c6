//! Peers that are slow, stop reading, or disconnect.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use super::http::Client;
use super::site::{Site, until_served};
use crate::harness::noise;

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
    // The whole takes longer than the limit, but the client keeps reading.
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
    // Two connections are possible again only once the stopped client has been dropped.
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
    // The sockets' buffers hold less, so the server has not sent all.
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
