//! Timeouts, and limits on connections and descriptors.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use super::http::{Client, TIME_LIMIT};
use super::site::{Site, executable, until_served};

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
        while start.elapsed() < TIME_LIMIT && writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    });
    client.response().expect(408);
    drop(client);
    // The server does not read from such a client for ever, either.
    assert!(trickle.join().unwrap() < TIME_LIMIT);
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
    // Connections that were accepted stay.
    for client in &mut clients {
        client.get("/f").expect(200);
    }
    drop(clients);
    until_served(&site);
}

#[test]
fn connections_beyond_the_limit_on_open_files_wait_and_are_served_later() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(executable());
    let site = Site::by(command, &["--workers", "1"]);
    site.file("f", "hello");
    let mut crowd: Vec<Client> = (0..200).map(|_| site.connect()).collect();
    for client in &mut crowd {
        client.request("GET", "/f", "Connection: close\r\n");
    }
    for mut client in crowd {
        assert_eq!(client.response().expect(200).text(), "hello");
    }
    // A client that keeps its connection does not keep the files from others.
    let mut kept: Vec<Client> = (0..30).map(|_| site.connect()).collect();
    for _ in 0..2 {
        for client in &mut kept {
            client.get("/f").expect(200);
        }
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
    // Files need descriptors, too; a request for a file that can't be opened gets an answer.
    for _ in 0..20 {
        let status = first.get("/f").status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
    drop(crowd);
    until_served(&site);
    first.get("/f").expect(200);
}
