//! The command line, the log, signals.

use std::fs;
use std::process::Command;

use super::http::Client;
use super::site::{Site, executable, run};
use crate::harness::noise;

#[test]
fn signals_end_it_in_good_order_with_transfers_under_way() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        assert_eq!(Site::new(&[]).signal(signal).code(), Some(0));
        let site = Site::new(&[]);
        site.file("f", "hello");
        let (mut idle, fresh) = (site.connect(), site.connect());
        idle.get("/f").expect(200);
        assert_eq!(site.signal(signal).code(), Some(0), "nothing was under way");
        drop(fresh);

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
        // The transfers are cut at the end of the grace period.
        assert_eq!(site.signal(signal).code(), Some(1));
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
fn absurd_limits_mean_never() {
    for absurd in ["never", "1e10", "1e19", "1e30", "99999999999999s"] {
        let site = Site::new(&[
            "--idle-timeout",
            absurd,
            "--header-timeout",
            absurd,
            "--write-timeout",
            absurd,
            "--max-connections",
            "18446744073709551615",
            "--balance",
            "least-loaded",
        ]);
        site.file("f", "hello");
        let mut client = site.connect();
        client.send("GET /f HT");
        std::thread::sleep(std::time::Duration::from_millis(20));
        client.send("TP/1.1\r\nHost: x\r\n\r\n").response().expect(200);
        client.get("/f").expect(200);
        drop(client);
        assert_eq!(site.signal(libc::SIGTERM).code(), Some(0));
    }
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
        &[".", "--idle-timeout", "NaN"],
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
