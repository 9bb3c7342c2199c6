//! How much memory the file server takes for an idle connection, and how much of it stays after a
//! burst of connections: the resident set of the process, as the kernel counts it.
//!
//! `cargo bench --bench idle_memory` builds the example `file_server` and measures it on each
//! driver, with 10,000 connections (or as many as the limit on open files allows), which have each
//! sent one request and stay open. `CONNECTIONS=1000` takes another number. If nginx is installed,
//! it is measured in the same way.
//!
//! What the kernel keeps for a socket is not part of it, and is the same for all servers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A running server, which ends with this.
struct Server {
    name: String,
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not a kill: nginx's workers end with their master only if that ends in order.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.child.wait();
    }
}

impl Server {
    /// The resident set of the process and its children, in bytes.
    fn memory(&self) -> i64 {
        let mut pids = vec![self.child.id().to_string()];
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(children).unwrap_or_default();
        pids.extend(text.split_whitespace().map(String::from));
        pids.iter().map(|pid| resident(pid)).sum()
    }
}

fn resident(pid: &str) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse::<i64>().expect("a number") * 1024
}

/// The directory of the build, `target/release` or so: this bench is in its `deps`.
fn profile() -> PathBuf {
    let bench = std::env::current_exe().expect("a bench knows its own path");
    bench.ancestors().nth(2).expect("benches are in deps").to_owned()
}

/// Starts the example with its files in `dir`.
fn file_server(dir: &Path, driver: &str) -> Server {
    let mut child = Command::new(profile().join("examples/file_server"))
        .arg(dir)
        .args(["--addr", "127.0.0.1:0", "--driver", driver, "--workers", "2"])
        .args(["--idle-timeout", "never", "--max-connections", "100000"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example is built");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ").and_then(|text| text.parse().ok());
    Server { name: format!("file_server, {driver}"), child, address: address.expect("an address") }
}

/// Starts nginx with its files in `dir`, if it is installed.
fn nginx(dir: &Path) -> Option<Server> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).ok()?;
    let at = dir.display();
    let conf = format!(
        "daemon off; worker_processes 2; pid {at}/pid; error_log /dev/null;
        worker_rlimit_nofile 20000; events {{ worker_connections 16000; }}
        http {{ access_log off; keepalive_timeout 3600;
        server {{ listen {address}; root {at}; }} }}"
    );
    fs::write(dir.join("nginx.conf"), conf).ok()?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(dir.join("nginx.conf")).stderr(Stdio::null());
    let child = command.spawn().ok()?;
    let server = Server { name: "nginx".into(), child, address };
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(10));
    }
    Some(server)
}

/// Opens connections, each of which has been answered one request.
fn connections(address: SocketAddr, number: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = TcpStream::connect(address).expect("it accepts");
        client.write_all(b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n").expect("it receives");
        let (mut answer, mut buf) = (Vec::new(), [0; 1024]);
        while !answer.ends_with(b"\r\n\r\nhello") {
            let len = client.read(&mut buf).expect("it answers");
            assert!(len > 0, "the connection was closed");
            answer.extend_from_slice(&buf[..len]);
        }
        client
    };
    (0..number).map(connect).collect()
}

fn measure(server: &Server, number: usize, wait: Duration) {
    // Once for what every server needs only once.
    drop(connections(server.address, 50.min(number)));
    sleep(wait / 10);
    let before = server.memory();
    let each = |memory: i64| (memory - before) / number as i64;
    for round in 1..=2 {
        let idle = connections(server.address, number);
        sleep(wait / 10);
        let during = each(server.memory());
        drop(idle);
        sleep(wait);
        let after = each(server.memory());
        println!(
            "{:<24} burst {round}: {during:>5} bytes per idle connection, {after:>5} stay",
            server.name
        );
    }
}

fn main() {
    let is_measurement = std::env::args().any(|arg| arg == "--bench");
    if is_measurement {
        let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        build.args(["build", "--release", "--example", "file_server"]);
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the example was not built");
    } else if !profile().join("examples/file_server").exists() {
        return println!("left out: the example file_server is not built");
    }
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // The server needs two per connection, of which it holds one for a file.
    let most = limit.maximum.map_or(10_000, |limit| (limit.saturating_sub(200) / 2) as usize);
    let number = std::env::var("CONNECTIONS").ok().and_then(|text| text.parse().ok());
    let number = number.unwrap_or(if is_measurement { 10_000 } else { 50 }).min(most);
    let wait = Duration::from_secs(if is_measurement { 10 } else { 0 });
    let dir = std::env::temp_dir().join(format!("idle-memory-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("f"), "hello").expect("a file");
    println!("{number} connections");
    for driver in ["auto", "readiness"] {
        measure(&file_server(&dir, driver), number, wait);
    }
    if let Some(nginx) = is_measurement.then(|| nginx(&dir)).flatten() {
        measure(&nginx, number, wait);
    }
    let _ = fs::remove_dir_all(dir);
}
