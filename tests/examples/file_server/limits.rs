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
fn a_client_that_keeps_its_connection_does_not_keep_the_files_from_others() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(executable());
    let site = Site::by(command, &["--workers", "1"]);
    site.file("f", "hello");
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
        let response = first.get("/f");
        assert!(matches!(response.status, 200 | 503), "{}", response.head);
        if response.field("connection") == Some("close") {
            // Others wait for its place.
            first.expect_end();
            break;
        }
    }
    drop(crowd);
    until_served(&site);
}

/// The resident set of a process, in KiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn resident(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn memory_of_a_burst_of_connections_goes_back_to_the_system() {
    const BURST: usize = 4000;
    for driver in ["auto", "readiness"] {
        let site = Site::new(&["--driver", driver, "--max-connections", "10000"]);
        site.file("f", "hello");
        let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if limits.current.is_some_and(|files| files < 2 * BURST as u64 + 100) {
            return println!("left out: too few open files are allowed: {limits:?}");
        }
        let connect = || -> Vec<Client> {
            let mut burst: Vec<Client> = (0..BURST).map(|_| site.connect()).collect();
            burst.iter_mut().for_each(|client| drop(client.get("/f").expect(200)));
            burst
        };
        let before = resident(site.id());
        let burst = connect();
        let during = resident(site.id());
        drop(burst);
        let (deadline, mut after) = (Instant::now() + TIME_LIMIT, during);
        // What stays: buffers, and memory that is kept for the next connections.
        while after.saturating_sub(before) > (during - before) / 2 {
            assert!(Instant::now() < deadline, "{driver}: {before}, {during}, {after} KiB");
            std::thread::sleep(Duration::from_millis(100));
            after = resident(site.id());
        }
    }
}
