//! What repeats is logged once a second at most.

#[allow(dead_code)] // The examples write lines.
#[path = "../../examples/common/log.rs"]
mod limited;

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::reports;
use crate::process::Finished;
use crate::servers::{DRIVERS, Server};
use limited::OncePerSecond;

/// Returns how many lines `stderr` has of which `is_line` holds, and how many were left out.
fn count(stderr: &str, is_line: impl Fn(&str) -> bool) -> (u64, u64) {
    let left_out = stderr.lines().filter_map(|line| {
        let before = line.split_once(" more were left out")?.0;
        Some(before.rsplit([' ', '(']).next()?.parse::<u64>().expect("their number is there"))
    });
    (stderr.lines().filter(|line| is_line(line)).count() as u64, left_out.sum())
}

#[test]
fn a_line_is_admitted_once_a_second_and_counts_those_left_out() {
    let (log, start) = (OncePerSecond::new(), Instant::now());
    let admit = |millis| log.admit(start + Duration::from_millis(millis));
    assert_eq!(admit(0), Some(0));
    for millis in [0, 1, 500, 999] {
        assert_eq!(admit(millis), None);
    }
    assert_eq!(admit(1000), Some(4));
    assert_eq!(admit(1999), None);
    // A clock that seems to go back, as another thread has read it earlier, admits no more.
    assert_eq!(admit(900), None);
    assert_eq!(admit(60_000), Some(2));
    assert_eq!(admit(61_000), Some(0));
}

#[test]
fn panics_of_handlers_are_reported_once_a_second_with_their_number() {
    const PANICS: u64 = 200;
    let start = Instant::now();
    let body = || {
        for _ in 0..2 {
            limited::limit_panics();
        }
        for number in 0..PANICS {
            let handler = thread::spawn(move || panic!("handler {number} panicked"));
            assert!(handler.join().is_err());
        }
        limited::PANICS.finish("panics");
    };
    reports(body, |stderr| {
        let (lines, left_out) = count(stderr, |line| line.starts_with("handler "));
        assert!((1..=start.elapsed().as_secs() + 1).contains(&lines), "{lines} lines:\n{stderr}");
        assert_eq!(lines + left_out, PANICS, "{stderr}");
    });
}

#[test]
fn connections_that_fail_are_reported_once_a_second_with_their_number() {
    for driver in DRIVERS {
        const CLIENTS: u64 = 200;
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let start = Instant::now();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &refusing]);
        for _ in 0..CLIENTS {
            // The proxy resets it.
            let _ = std::io::Read::read(&mut proxy.connect(), &mut [0]);
        }
        let Finished { stderr, .. } = proxy.end();
        let (lines, left_out) = count(&stderr, |line| line.contains("refused"));
        assert!((1..=start.elapsed().as_secs() + 1).contains(&lines), "{lines} lines:\n{stderr}");
        assert_eq!(lines + left_out, CLIENTS, "{stderr}");
    }
}
