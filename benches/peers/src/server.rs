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

/// What a program is run under, to count what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Under<'a> {
    Nothing,
    /// `perf stat`, which writes the number of system calls to this file.
    Perf(&'a Path),
    /// Valgrind's instruction counter, which writes to this file.
    Valgrind(&'a Path),
}

/// With a queue that is long enough for all connections at once. Accepted ones inherit what is set here;
/// programs that are started inherit the socket.
fn listen() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    system::control_congestion(&socket)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    socket.set_cloexec(false)?;
    Ok(socket)
}

fn command(under: Under) -> Result<Command> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = match under {
        Under::Nothing => {
            let mut command = Command::new(&program);
            command.stdin(Stdio::null());
            return Ok(command);
        }
        Under::Perf(out) => {
            let mut command = Command::new("perf");
            command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o"]).arg(out).arg("--");
            command.arg(&program);
            command
        }
        Under::Valgrind(out) => {
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
    // Which tells that it was ended, as it was.
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A server that accepts.
pub(crate) struct Server {
    child: Child,
    /// The socket it accepts from, if it has that from here.
    listener: Option<Socket>,
    pid: u32,
    pub(crate) address: SocketAddr,
    allocations_at: Option<u64>,
}

impl Server {
    pub(crate) fn start(peer: &str, service: &Service, under: Under) -> Result<Self> {
        let listener = listen()?;
        let mut child = command(under)?
            .args(["serve", peer, &serde_json::to_string(service)?])
            .arg(listener.as_raw_fd().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {peer} {under:?}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it was asked for")).read_line(&mut line)?;
        let Ok(ready) = serde_json::from_str::<Ready>(&line) else {
            let _ = child.kill();
            bail!("{peer} ended at once: {:?}", child.wait()?);
        };
        let address = listener.local_addr()?.as_socket().context("an address of the Internet")?;
        Ok(Server {
            child,
            listener: Some(listener),
            pid: ready.pid,
            address,
            allocations_at: Some(ready.allocations_at),
        })
    }

    /// nginx with one process, for files.
    pub(crate) fn nginx(root: &Path, scratch: &Path) -> Result<Self> {
        // It takes no port 0; another program may take the port meanwhile, which is then an error.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = scratch.join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
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
                bail!("nginx ended at once: {status}");
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "nginx does not accept");
            std::thread::sleep(Duration::from_millis(5));
        }
        // It has no setting for that.
        for socket in system::sockets_of(child.id())? {
            if socket.is_listener()? {
                system::control_congestion(&socket)?;
            }
        }
        Ok(Server { pid: child.id(), child, listener: None, address, allocations_at: None })
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        system::process_cpu(self.pid).context("the server has gone")
    }

    /// In bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        system::private_memory(self.pid).context("the server has gone")
    }

    pub(crate) fn allocations(&self) -> Result<Option<u64>> {
        self.allocations_at.map(|at| Ok(system::peek(self.pid, at)?)).transpose()
    }

    /// Ends it; when this returns, whatever it runs under has written its file.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        // Its accept fails then, and its program comes to its end.
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

/// Lets a program measure itself.
pub(crate) fn run_job(peer: &str, job: &Job, under: Under) -> Result<Done> {
    let output = command(under)?
        .args(["job", peer, &serde_json::to_string(job)?])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {peer}"))?;
    ensure!(output.status.success(), "{peer} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {peer} told"))
}

/// fio's random reads.
pub(crate) fn fio(file: &Path, direct: bool, depth: u64, length: Duration) -> Result<Done> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["pinned", "fio", "--name=reads", "--ioengine=io_uring", "--rw=randread", "--bs=4k"])
        // It would drop what others are about to find in memory.
        .arg("--invalidate=0")
        .args(["--output-format=json", "--time_based", "--readonly", "--norandommap"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--direct={}", u8::from(direct)))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--runtime={}ms", length.as_millis()))
        .output()
        .context("starting fio")?;
    ensure!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("what fio told")?;
    let job = &told["jobs"][0];
    let number = |value: &serde_json::Value| value.as_f64().context("a number from fio");
    let wall_ns = number(&job["read"]["runtime"])? * 1e6;
    let busy = (number(&job["usr_cpu"])? + number(&job["sys_cpu"])?) / 100.0;
    Ok(Done {
        count: number(&job["read"]["total_ios"])? as u64,
        wall_ns: wall_ns as u64,
        cpu_ns: (wall_ns * busy) as u64,
        allocations: 0,
    })
}

/// Whether a program can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).is_file())
}
