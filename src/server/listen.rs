//! The listening sockets of a server, and their distribution over its workers.

// # Why this file has `unsafe`
// `inherited_sockets` takes ownership of file descriptors by their numbers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

use crate::driver::seams::{options, sockets};
use crate::error::debug_as_display;
#[cfg(unix)]
use crate::net::UnixListener;
use crate::net::{Socket, SocketAddress, ToSocketAddrs, resolve_blocking};
#[cfg(target_os = "linux")]
use crate::os::AsFd;
use crate::os::OwnedFd;

/// How many connections the kernel keeps for a listener to accept, capped by
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Something to listen on.
pub(super) enum Endpoint {
    /// A name as text, and its addresses, of which the first that works is taken; or the error of
    /// the lookup.
    Tcp(String, io::Result<Vec<SocketAddr>>),
    #[cfg(unix)]
    Unix(PathBuf),
    /// A socket that listens already.
    Inherited(OwnedFd),
}

impl Endpoint {
    pub(super) fn tcp(address: impl ToSocketAddrs + fmt::Debug) -> Self {
        let name = format!("{address:?}").trim_matches('"').to_owned();
        Endpoint::Tcp(name, resolve_blocking(address))
    }

    /// Opens it for `workers` workers: with one socket each where the kernel distributes
    /// connections over them, otherwise with one socket for all.
    pub(super) fn open(self, workers: usize) -> Result<OpenEndpoint, ListenError> {
        let name = self.to_string();
        self.try_open(workers).map_err(|error| ListenError { name, error })
    }

    fn try_open(self, workers: usize) -> io::Result<OpenEndpoint> {
        let socket: Socket = match self {
            Endpoint::Tcp(_, addresses) => return listen_tcp(&addresses?, workers),
            #[cfg(unix)]
            Endpoint::Unix(path) => Socket::made(UnixListener::bind(path)?.try_into()?),
            Endpoint::Inherited(fd) => {
                #[cfg(target_os = "linux")]
                if !sockets::is_listener(fd.as_fd())? {
                    let text =
                        "the inherited fd is not a listening socket: call listen(2) on it first";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                fd.into()
            }
        };
        share(socket, workers)
    }
}

fn listen_tcp(addresses: &[SocketAddr], workers: usize) -> io::Result<OpenEndpoint> {
    let mut refused =
        io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on: the list is empty");
    for &address in addresses {
        match tcp_socket(address).and_then(|socket| start_listening(socket, address)) {
            Ok(first) => return one_for_each(first, workers),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = match address {
        SocketAddr::V4(_) => Socket::tcp_v4()?,
        SocketAddr::V6(_) => Socket::tcp_v6()?,
    };
    // On Windows this would let another program take the port over.
    #[cfg(unix)]
    socket.set_reuse_addr(true)?;
    // Accepted connections inherit it.
    socket.set_nodelay(true)?;
    if address.is_ipv6() {
        // IPv4, too, on an unspecified address.
        options::set_only_v6(socket.fd(), false)?;
    }
    Ok(socket)
}

fn start_listening(socket: Socket, address: SocketAddr) -> io::Result<Socket> {
    socket.bind(address)?;
    sockets::listen(socket.fd(), BACKLOG)?;
    Ok(socket)
}

/// Gives each worker a socket with `SO_REUSEPORT`, beside `first`, which listens without it.
///
/// `first` listens before the option is set, so that the kernel has refused the address if any
/// other socket listens there, with the option or without; and from then on it refuses programs
/// that do not set the option, among them every other corio server. (What remains: a program of the
/// same user that sets `SO_REUSEPORT` for its first bind can join later. The option allows just
/// that.) The kernel accepts the option on a socket that listens: the group of the sockets that
/// share the port is made when the second one listens (`reuseport_add_sock` in
/// `net/core/sock_reuseport.c`).
#[cfg(target_os = "linux")]
fn one_for_each(first: Socket, workers: usize) -> io::Result<OpenEndpoint> {
    let address = first.local_addr()?;
    // The port is known now, if any free one was asked for.
    let inet = address.as_inet().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = Vec::new();
    if workers > 1 {
        first.set_reuse_port(true)?;
    }
    for _ in 1..workers {
        let socket = tcp_socket(inet)?;
        socket.set_reuse_port(true)?;
        match start_listening(socket, inet) {
            Ok(socket) => sockets.push(socket),
            // A kernel that heeds the option only before the bind, such as gVisor's.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && sockets.is_empty() => {
                return share(first, workers);
            }
            Err(error) => return Err(error),
        }
    }
    sockets.push(first);
    Ok(OpenEndpoint { address, sockets })
}

#[cfg(not(target_os = "linux"))]
fn one_for_each(first: Socket, workers: usize) -> io::Result<OpenEndpoint> {
    share(first, workers)
}

/// Gives all workers the same socket.
fn share(socket: Socket, workers: usize) -> io::Result<OpenEndpoint> {
    let address = socket.local_addr()?;
    let mut sockets = Vec::new();
    for _ in 1..workers {
        let other = Socket::made(socket.fd().try_clone_to_owned()?);
        if socket.is_exposed() {
            other.set_exposed();
        }
        sockets.push(other);
    }
    sockets.push(socket);
    Ok(OpenEndpoint { address, sockets })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(name, _) => f.write_str(name),
            #[cfg(unix)]
            Endpoint::Unix(path) => path.display().fmt(f),
            Endpoint::Inherited(_) => f.write_str("an inherited socket"),
        }
    }
}

/// An open [`Endpoint`].
pub(super) struct OpenEndpoint {
    pub(super) address: SocketAddress,
    /// One per worker.
    pub(super) sockets: Vec<Socket>,
}

/// A server could not listen on one of its addresses.
#[derive(thiserror::Error)]
#[error("can't listen on {name}: {error}{}", hint(error))]
pub struct ListenError {
    name: String,
    #[source]
    error: io::Error,
}

debug_as_display!(ListenError);

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: stop it, or choose another port (`ss -ltnp` shows it)"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

impl ListenError {
    /// Returns the system's error.
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }
}

/// Returns the listening sockets that the service manager has opened for this process, by the
/// protocol of [`sd_listen_fds(3)`]:
/// file descriptors from 3 on, `LISTEN_FDS` of them, if `LISTEN_PID` is this process. Makes them
/// close-on-exec.
///
/// # Errors
/// If the variables are set but make no sense, or a descriptor is not open.
///
/// # Safety
/// Nothing else in this process owns these descriptors: call it once, and before other code opens
/// files.
///
/// [`sd_listen_fds(3)`]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
#[cfg(unix)]
pub unsafe fn inherited_sockets() -> io::Result<Vec<OwnedFd>> {
    use std::os::fd::FromRawFd;
    const FIRST: i32 = 3;
    let number = |name: &str| match std::env::var(name) {
        Ok(text) => text.parse::<u32>().map(Some).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name}={text} is not a number"))
        }),
        Err(_) => Ok(None),
    };
    let (Some(pid), Some(count)) = (number("LISTEN_PID")?, number("LISTEN_FDS")?) else {
        return Ok(Vec::new());
    };
    if pid != std::process::id() {
        return Ok(Vec::new());
    }
    let checked = i32::try_from(count).ok().filter(|&count| count <= 65_536);
    let count = checked.ok_or_else(|| {
        let text = format!("LISTEN_FDS={count} is more than 65536, the most that is accepted");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    let mut fds = Vec::new();
    for fd in FIRST..FIRST + count {
        // SAFETY: no memory is passed; the call fails if the descriptor is not open.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, as `fcntl` succeeded, and by this function's contract nothing else
        // owns it.
        fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Ok(fds)
}
