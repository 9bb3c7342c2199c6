//! The example `file_server` as a child process, with a directory of its own.

// # Why this file has `unsafe`
// `std` can kill a process, but not send it another signal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::http::{Client, Response, TIME_LIMIT};

/// A directory and a server that serves it; both end when this is dropped.
pub(crate) struct Site {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
}

/// The example's executable, which `cargo test` has built.
pub(crate) fn executable() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/*/deps");
    let path = profile.join("examples/file_server");
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

impl Site {
    /// Serves a new directory `www`; it has a neighbour, `secret`, that must not be seen.
    pub(crate) fn new(options: &[&str]) -> Self {
        Self::by(Command::new(executable()), options)
    }

    /// The same by another command, which is given the same arguments.
    pub(crate) fn by(command: Command, options: &[&str]) -> Self {
        Self::with(command, options, |_| {})
    }

    /// The same, with files to be made before the server starts.
    pub(crate) fn with(command: Command, options: &[&str], make: impl FnOnce(&Path)) -> Self {
        Self::within(tempfile::tempdir().unwrap(), command, options, make)
    }

    /// The same in a file system in memory, which has larger files and later times than others.
    /// `None` if the host has none.
    pub(crate) fn in_memory() -> Option<Self> {
        let dir = tempfile::tempdir_in("/dev/shm").ok()?;
        Some(Self::within(dir, Command::new(executable()), &[], |_| {}))
    }

    fn within(
        dir: tempfile::TempDir,
        mut command: Command,
        options: &[&str],
        make: impl FnOnce(&Path),
    ) -> Self {
        fs::create_dir(dir.path().join("www")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        make(dir.path());
        let mut child = command
            .arg(dir.path().join("www"))
            .args(["--addr", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server said {line:?}");
        };
        Site { child, address, dir }
    }

    /// Returns the path of a file of the served directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("www").join(name)
    }

    /// Makes a file.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Fetches a target on a new connection.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// Sends bytes on a new connection and reads the first response.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> (Response, Client) {
        let mut client = self.connect();
        let response = client.send(bytes).response();
        (response, client)
    }

    /// Returns how many of the server's threads have a name that begins like this.
    pub(crate) fn threads(&self, name: &str) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")));
        names.filter(|found| found.as_ref().is_ok_and(|found| found.starts_with(name))).count()
    }

    /// The server's process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(mut self, signal: i32) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the child is not waited for yet, so its number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        wait(&mut self.child)
    }
}

/// Waits for a child's end, but not for ever.
fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the server with arguments that make it end by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(executable());
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait(&mut child);
    child.wait_with_output().unwrap()
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that runs a copy of the server within `dir` as a user without privileges, to
/// which file permissions apply. `None` if that is not possible.
pub(crate) fn as_nobody(dir: &Path) -> Option<Command> {
    use std::os::unix::fs::PermissionsExt;
    /// The uid of `nobody` on every common system. (words: allow(nobody))
    const NOBODY: u32 = 65_534;
    let copy = dir.join("file_server");
    fs::copy(executable(), &copy).ok()?;
    for path in [dir, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).ok()?;
    }
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY);
    command.stdin(Stdio::null());
    let able = Command::new("true").uid(NOBODY).gid(NOBODY).status();
    able.is_ok_and(|status| status.success()).then_some(command)
}

/// Tries until a new connection is served.
pub(crate) fn until_served(site: &Site) -> Client {
    let deadline = Instant::now() + TIME_LIMIT;
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
