//! The measured servers, each in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::program::{Done, Job, Ready, Service};
use crate::system;

/// The measured programs have this processor, the generator has the other one.
pub(crate) const SERVER_CPU: usize = 0;
pub(crate) const GENERATOR_CPU: usize = 1;

/// The program that runs a peer, to count what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrapper<'a> {
    Nothing,
    /// `perf stat`, which writes the number of system calls to this file.
    Perf(&'a Path),
    /// Valgrind's instruction counter, which writes to this file.
    Valgrind(&'a Path),
}

/// Creates a listener with a backlog for all connections at once. Accepted sockets inherit its
/// options; child processes inherit the listener.
fn listen() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    system::control_congestion(&socket)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    socket.set_cloexec(false)?;
    Ok(socket)
}

fn command(wrapper: Wrapper) -> Result<Command> {
    let program = std::env::current_exe().context("the path of this executable")?;
    let mut command = match wrapper {
        Wrapper::Nothing => {
            let mut command = Command::new(&program);
            command.stdin(Stdio::null());
            return Ok(command);
        }
        Wrapper::Perf(out) => {
            let mut command = Command::new("perf");
            command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o"]).arg(out).arg("--");
            command.arg(&program);
            command
        }
        Wrapper::Valgrind(out) => {
            let mut command = Command::new("valgrind");
            command.args([
                "--tool=cachegrind",
                "--cache-sim=no",
                "--cachegrind-out-file=/dev/null",
            ]);
            command.arg(format!("--log-file={}", out.display())).arg(&program);
            command
        }
    };
    // The wrapper reports the signal that ends it: not an error.
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// The listener, if the server inherited it.
    listener: Option<Socket>,
    pid: u32,
    pub(crate) address: SocketAddr,
    allocations_at: Option<u64>,
}

impl Server {
    pub(crate) fn start(peer: &str, service: &Service, wrapper: Wrapper) -> Result<Self> {
        let listener = listen()?;
        let mut child = command(wrapper)?
            .args(["serve", peer, &serde_json::to_string(service)?])
            .arg(listener.as_raw_fd().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {peer} under {wrapper:?}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let Ok(ready) = serde_json::from_str::<Ready>(&line) else {
            let _ = child.kill();
            bail!("{peer} exited at start-up: {:?}", child.wait()?);
        };
        let address = listener.local_addr()?.as_socket().context("not an IP address")?;
        Ok(Server {
            child,
            listener: Some(listener),
            pid: ready.pid,
            address,
            allocations_at: Some(ready.allocations_at),
        })
    }

    /// Starts nginx with one process, as a file server.
    pub(crate) fn nginx(root: &Path, scratch: &Path) -> Result<Self> {
        // nginx cannot use port 0. If another program takes this port first, nginx fails to start.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = scratch.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/fastcgi;\n\
             uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
             server {{ listen {address}; root {1}; }} }}\n",
            scratch.display(),
            root.display()
        );
        std::fs::write(&config, text)?;
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .args(["pinned", "nginx", "-p"])
            .arg(scratch)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("starting nginx")?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("nginx exited at start-up: {status}");
            }
            ensure!(
                start.elapsed() < Duration::from_secs(10),
                "nginx does not accept connections after 10 s"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        // nginx has no setting for the congestion control.
        for socket in system::sockets_of(child.id())? {
            if socket.is_listener()? {
                system::control_congestion(&socket)?;
            }
        }
        Ok(Server { pid: child.id(), child, listener: None, address, allocations_at: None })
    }

    /// Returns the CPU time of the process.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        system::process_cpu(self.pid).context("the server process has exited")
    }

    /// Returns the private memory of the process, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        system::private_memory(self.pid).context("the server process has exited")
    }

    /// Returns the number of heap allocations so far; `None` for programs that do not count them.
    pub(crate) fn allocations(&self) -> Result<Option<u64>> {
        self.allocations_at.map(|at| Ok(system::peek(self.pid, at)?)).transpose()
    }

    /// Stops the server; when this returns, its wrapper has written the output file.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        // Then `accept` fails and the server returns.
        match &self.listener {
            Some(listener) => listener.shutdown(Shutdown::Both)?,
            None => system::terminate(self.pid),
        }
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            match start.elapsed().as_secs() {
                0..3 => {}
                3..6 => system::terminate(self.pid),
                _ => self.child.kill()?,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Runs a program that measures itself.
pub(crate) fn run_job(peer: &str, job: &Job, wrapper: Wrapper) -> Result<Done> {
    let output = command(wrapper)?
        .args(["job", peer, &serde_json::to_string(job)?])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {peer}"))?;
    ensure!(output.status.success(), "{peer} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("parsing the output of {peer}"))
}

/// Runs fio's random reads.
pub(crate) fn fio(file: &Path, direct: bool, depth: u64, length: Duration) -> Result<Done> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["pinned", "fio", "--name=reads", "--ioengine=io_uring", "--rw=randread", "--bs=4k"])
        // By default fio drops the file from the page cache, which the other programs need.
        .arg("--invalidate=0")
        .args(["--output-format=json", "--time_based", "--readonly", "--norandommap"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--direct={}", u8::from(direct)))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--runtime={}ms", length.as_millis()))
        .output()
        .context("starting fio")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let output: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("parsing the output of fio")?;
    let job = &output["jobs"][0];
    let number = |value: &serde_json::Value| value.as_f64().context("fio: not a number");
    let wall_ns = number(&job["read"]["runtime"])? * 1e6;
    let busy = (number(&job["usr_cpu"])? + number(&job["sys_cpu"])?) / 100.0;
    Ok(Done {
        count: number(&job["read"]["total_ios"])? as u64,
        wall_ns: wall_ns as u64,
        cpu_ns: (wall_ns * busy) as u64,
        allocations: 0,
    })
}

/// Returns `true` if the program is installed.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}
