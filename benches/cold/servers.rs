//! The servers, each in a process of its own.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::disk::SlowGroup;

/// A server to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The example, on a driver.
    FileServer(&'static str),
    Nginx {
        aio_threads: bool,
    },
}

impl Subject {
    pub(crate) fn name(self) -> String {
        match self {
            Subject::FileServer(driver) => format!("file_server, {driver}"),
            Subject::Nginx { aio_threads: false } => "nginx".into(),
            Subject::Nginx { aio_threads: true } => "nginx, aio threads".into(),
        }
    }
}

/// Returns the path of a program that is installed.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let mut places = env::split_paths(&path).chain(sbin).map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}

/// Builds the example `file_server`, and returns its path.
pub(crate) fn build_file_server() -> io::Result<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--release", "--example", "file_server"]);
    if !command.current_dir(env!("CARGO_MANIFEST_DIR")).status()?.success() {
        return Err(io::Error::other("file_server does not build"));
    }
    let this = env::current_exe()?;
    let target = this.ancestors().nth(3).unwrap_or(Path::new("target"));
    Ok(target.join("release/examples/file_server"))
}

/// A running server, with one worker.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server of the files in `root`, with its reads limited by `group`.
    pub(crate) fn start(
        subject: Subject,
        program: &Path,
        root: &Path,
        group: &SlowGroup,
    ) -> io::Result<Self> {
        match subject {
            Subject::FileServer(driver) => Server::file_server(driver, program, root, group),
            Subject::Nginx { aio_threads } => Server::nginx(aio_threads, program, root, group),
        }
    }

    fn file_server(
        driver: &str,
        program: &Path,
        root: &Path,
        group: &SlowGroup,
    ) -> io::Result<Self> {
        let mut command = group.command(program);
        command.args(["--workers", "1", "--driver", driver, "--addr", "127.0.0.1:0"]).arg(root);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").and_then(|text| text.parse().ok());
        match address {
            Some(address) => Ok(Server { child, address }),
            None => {
                let _ = child.kill();
                let status = child.wait()?;
                Err(io::Error::other(format!("file_server: {status}, {line:?}")))
            }
        }
    }

    fn nginx(
        aio_threads: bool,
        program: &Path,
        root: &Path,
        group: &SlowGroup,
    ) -> io::Result<Self> {
        // nginx cannot use port 0. If another program takes this port first, nginx fails to start.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let scratch = root.parent().unwrap_or(root);
        let config = scratch.join("nginx.conf");
        let aio = if aio_threads { "aio threads;" } else { "" };
        let text = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; {aio}\n\
             client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/fastcgi;\n\
             uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
             server {{ listen {address}; root {1}; }} }}\n",
            scratch.display(),
            root.display()
        );
        fs::write(&config, text)?;
        let mut command = group.command(program);
        command.arg("-p").arg(scratch).arg("-c").arg(&config).stdin(Stdio::null());
        let mut server = Server { child: command.spawn()?, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("nginx: {status}")));
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err(io::Error::other("nginx accepts no connections after 20 s"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may wait for its disk, and has nothing to tidy up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
