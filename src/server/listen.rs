//! What a server listens on, and each worker's share of it.
//!
//! # Why this file has `unsafe`
//! It takes fds over by their numbers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

#[cfg(target_os = "linux")]
use crate::driver::seams::sockets;
#[cfg(unix)]
use crate::net::UnixListener;
use crate::net::{Socket, SocketAddress, TcpListener, ToSocketAddrs, resolve_blocking};
use crate::os::{AsFd, OwnedFd};

/// Something to listen on.
pub(super) enum Place {
    /// The addresses of a name, of which the first that will do is taken; or why there are none.
    Tcp(String, io::Result<Vec<SocketAddr>>),
    #[cfg(unix)]
    Unix(PathBuf),
    /// A socket that listens already.
    Inherited(OwnedFd),
}

impl Place {
    pub(super) fn tcp(address: impl ToSocketAddrs + fmt::Debug) -> Self {
        let name = format!("{address:?}").trim_matches('"').to_owned();
        Place::Tcp(name, resolve_blocking(address))
    }

    /// Opens it for `workers` workers: one socket each where the system spreads connections over them,
    /// else the same for all.
    pub(super) fn open(self, workers: usize) -> Result<Opened, ListenError> {
        let name = self.to_string();
        self.try_open(workers).map_err(|error| ListenError { name, error })
    }

    fn try_open(self, workers: usize) -> io::Result<Opened> {
        let first: Socket = match self {
            Place::Tcp(_, addresses) => {
                let addresses = addresses?;
                #[cfg(unix)]
                let bind = |addresses: &[SocketAddr]| TcpListener::bind_reuse_port(addresses);
                #[cfg(windows)]
                let bind = |addresses: &[SocketAddr]| TcpListener::bind(addresses);
                let first = bind(&addresses)?;
                let address = first.local_addr()?;
                let mut sockets = vec![Socket::from(OwnedFd::try_from(first)?)];
                if !cfg!(target_os = "linux") {
                    return shared(sockets.remove(0), workers);
                }
                // The port is known now, if it was to be found.
                for _ in 1..workers {
                    sockets.push(OwnedFd::try_from(bind(&[address])?)?.into());
                }
                return Ok(Opened { address: address.into(), sockets });
            }
            #[cfg(unix)]
            Place::Unix(path) => OwnedFd::try_from(UnixListener::bind(path)?)?.into(),
            Place::Inherited(fd) => {
                #[cfg(target_os = "linux")]
                if !sockets::is_listener(fd.as_fd())? {
                    let text = "the inherited file descriptor is not a listening socket";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                fd.into()
            }
        };
        shared(first, workers)
    }
}

/// One socket for all.
fn shared(first: Socket, workers: usize) -> io::Result<Opened> {
    let address = first.local_addr()?;
    let mut sockets = Vec::new();
    for _ in 1..workers {
        sockets.push(first.as_fd().try_clone_to_owned()?.into());
    }
    sockets.push(first);
    Ok(Opened { address, sockets })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(name, _) => f.write_str(name),
            #[cfg(unix)]
            Place::Unix(path) => path.display().fmt(f),
            Place::Inherited(_) => f.write_str("an inherited socket"),
        }
    }
}

/// An open [`Place`].
pub(super) struct Opened {
    pub(super) address: SocketAddress,
    /// One per worker.
    pub(super) sockets: Vec<Socket>,
}

/// A server can't listen where it was told to.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {name}: {error}")]
pub struct ListenError {
    name: String,
    #[source]
    error: io::Error,
}

impl ListenError {
    /// What the system says.
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }
}

/// The sockets that whoever started this process has opened for it, by the protocol of
/// [`sd_listen_fds(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html):
/// fds from 3 on, `LISTEN_FDS` of them, if `LISTEN_PID` is this process. They are close-on-exec now.
///
/// # Errors
/// When the variables are there but don't make sense, or an fd is not open.
///
/// # Safety
/// Nobody else in this process owns these fds: call it once, early, before other code opens files.
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
    let count = i32::try_from(count).ok().filter(|&count| count <= 65_536);
    let count = count.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "LISTEN_FDS is not a possible number of fds")
    })?;
    let mut fds = Vec::new();
    for fd in FIRST..FIRST + count {
        // SAFETY: no memory is passed; it fails if the fd is not open.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, and the caller vouches for it being nobody's.
        fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Ok(fds)
}
