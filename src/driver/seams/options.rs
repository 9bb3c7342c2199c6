//! Socket options. A simulated world keeps those that it models, and answers `ENOPROTOOPT` to the
//! others.

// # Why this file has `unsafe`
// It sets an option for which no library has a function.

use std::io;
use std::time::Duration;

use socket2::SockRef;
#[cfg(not(target_os = "openbsd"))]
use socket2::TcpKeepalive;

use crate::os::BorrowedFd;

macro_rules! options {
    ($($(#[$attr:meta])* $get:ident, $set:ident: $ty:ty = $raw_get:ident, $raw_set:ident;)+) => {$(
        $(#[$attr])*
        pub(crate) fn $get(socket: BorrowedFd<'_>) -> io::Result<$ty> {
            SockRef::from(&socket).$raw_get()
        }

        $(#[$attr])*
        pub(crate) fn $set(socket: BorrowedFd<'_>, value: $ty) -> io::Result<()> {
            SockRef::from(&socket).$raw_set(value)
        }
    )+};
}

options! {
    /// `SO_REUSEPORT`.
    #[cfg(unix)]
    reuse_port, set_reuse_port: bool = reuse_port, set_reuse_port;
    /// `SO_REUSEADDR`.
    reuse_address, set_reuse_address: bool = reuse_address, set_reuse_address;
    /// `TCP_NODELAY`.
    nodelay, set_nodelay: bool = tcp_nodelay, set_tcp_nodelay;
    /// `SO_KEEPALIVE`.
    keepalive, set_keepalive: bool = keepalive, set_keepalive;
    /// `SO_BROADCAST`.
    broadcast, set_broadcast: bool = broadcast, set_broadcast;
    /// `SO_LINGER`, in whole seconds.
    linger, set_linger: Option<Duration> = linger, set_linger;
}

/// Buffer sizes are ints: larger ones would wrap. The system limits them further.
macro_rules! sizes {
    ($($(#[$attr:meta])* $get:ident, $set:ident;)+) => {$(
        $(#[$attr])*
        pub(crate) fn $get(socket: BorrowedFd<'_>) -> io::Result<usize> {
            SockRef::from(&socket).$get()
        }

        $(#[$attr])*
        pub(crate) fn $set(socket: BorrowedFd<'_>, value: usize) -> io::Result<()> {
            SockRef::from(&socket).$set(value.min(i32::MAX as usize))
        }
    )+};
}

sizes! {
    /// `SO_RCVBUF`, in bytes.
    recv_buffer_size, set_recv_buffer_size;
    /// `SO_SNDBUF`, in bytes.
    send_buffer_size, set_send_buffer_size;
}

/// `IPV6_V6ONLY`: whether an IPv6 socket refuses IPv4 peers.
pub(crate) fn set_only_v6(socket: BorrowedFd<'_>, only: bool) -> io::Result<()> {
    SockRef::from(&socket).set_only_v6(only)
}

/// `IP_PKTINFO`, or `IPV6_RECVPKTINFO` for IPv6 sockets: whether received messages have their
/// destination.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
pub(crate) fn set_packet_info(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    use crate::os::AsRawFd;
    let (level, name) = match SockRef::from(&socket).local_addr()?.is_ipv6() {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let (value, len) = (i32::from(on), size_of::<i32>() as libc::socklen_t);
    // SAFETY: `value` is as long as `len` says.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// This host has another way, which this crate does not know.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(crate) fn set_packet_info(_: BorrowedFd<'_>, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `TCP_KEEPIDLE`, `TCP_KEEPINTVL` and `TCP_KEEPCNT`; switches `SO_KEEPALIVE` on.
#[cfg(not(target_os = "openbsd"))]
pub(crate) fn set_keepalive_times(
    socket: BorrowedFd<'_>,
    idle: Duration,
    interval: Duration,
    probes: u32,
) -> io::Result<()> {
    let times = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    SockRef::from(&socket).set_tcp_keepalive(&times)
}

/// Returns `true` if the close of a file waits for the peer: that of a socket with a linger time.
pub(crate) fn lingers(file: BorrowedFd<'_>) -> bool {
    #[cfg(windows)]
    if let BorrowedFd::File(_) = file {
        return false;
    }
    if cfg!(miri) {
        return false; // It lacks the option.
    }
    matches!(linger(file), Ok(Some(time)) if !time.is_zero())
}

/// Makes the close of a socket not wait for the peer. The system goes on sending what is left all
/// the same, as it does after the linger time; a time of zero, which resets the connection, stays.
#[cold]
pub(crate) fn stop_lingering(file: BorrowedFd<'_>) {
    if lingers(file) {
        let _ = set_linger(file, None);
    }
}
