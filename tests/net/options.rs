//! Socket options: set, read back, and checked with the system.

use std::time::Duration;

use corio::net::{Socket, SocketAddress, TcpListener, TcpStream};

#[cfg(unix)]
use crate::harness::is_cloexec;
use crate::harness::{Outcome, assert_errno, assert_kind, errno};

every_driver! {
    the_linger_time_is_set,
    options_of_another_kind_of_socket_are_refused,
    an_address_is_bound_once,
    accepted_connections_have_nodelay,
}

#[cfg(unix)]
every_driver! {
    sizes_are_doubled_by_the_kernel,
    boolean_options_are_read_back,
    keepalive_times_are_set,
}

async fn accepted_connections_have_nodelay() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (connected, accepted) =
        futures_util::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (client, (server, _)) = (connected?, accepted?);
    assert!(client.options().tcp_nodelay()?);
    assert!(server.options().tcp_nodelay()?);
    server.set_nodelay(false)?;
    assert!(!server.options().tcp_nodelay()?);
    Ok(())
}

fn each_kind() -> std::io::Result<[Socket; 4]> {
    Ok([Socket::tcp_v4()?, Socket::tcp_v6()?, Socket::udp_v4()?, Socket::udp_v6()?])
}

#[cfg(unix)]
async fn boolean_options_are_read_back() -> Outcome {
    for socket in each_kind()? {
        assert!(is_cloexec(&socket));
        macro_rules! check {
            ($($get:ident, $set:ident, $option:ident;)+) => {$(
                assert!(!socket.$get()?);
                for value in [true, false, true] {
                    socket.$set(value)?;
                    assert_eq!(socket.$get()?, value, stringify!($get));
                    assert_eq!(socket.options().$option()?, value, stringify!($get));
                }
            )+};
        }
        check! {
            reuse_addr, set_reuse_addr, reuse_address;
            reuse_port, set_reuse_port, reuse_port;
            keepalive, set_keepalive, keepalive;
            broadcast, set_broadcast, broadcast;
        }
    }
    for socket in [Socket::tcp_v4()?, Socket::tcp_v6()?] {
        assert!(!socket.nodelay()?);
        for value in [true, false] {
            socket.set_nodelay(value)?;
            assert_eq!((socket.nodelay()?, socket.options().tcp_nodelay()?), (value, value));
        }
    }
    Ok(())
}

#[cfg(unix)]
async fn sizes_are_doubled_by_the_kernel() -> Outcome {
    for socket in each_kind()? {
        for size in [8_192, 65_536] {
            socket.set_recv_buffer_size(size)?;
            socket.set_send_buffer_size(size)?;
            assert_eq!(socket.recv_buffer_size()?, 2 * size);
            assert_eq!(socket.send_buffer_size()?, 2 * size);
        }
    }
    Ok(())
}

async fn the_linger_time_is_set() -> Outcome {
    let socket = Socket::tcp_v4()?;
    assert_eq!(socket.linger()?, None);
    for value in [Some(Duration::ZERO), Some(Duration::from_secs(7)), None] {
        socket.set_linger(value)?;
        assert_eq!(socket.linger()?, value);
    }
    // Not rounded down to zero, which would mean a reset.
    socket.set_linger(Some(Duration::from_millis(500)))?;
    assert_eq!(socket.linger()?, Some(Duration::from_secs(1)));
    // Much longer than a day: not wrapped to a short time or to a reset.
    socket.set_linger(Some(Duration::MAX))?;
    assert!(socket.linger()?.is_some_and(|time| time > Duration::from_secs(60_000)));
    Ok(())
}

#[cfg(unix)]
async fn keepalive_times_are_set() -> Outcome {
    let socket = Socket::tcp_v4()?;
    socket.set_keepalive_times(Duration::from_secs(31), Duration::from_secs(7), 4)?;
    assert!(socket.keepalive()?);
    assert_eq!(socket.options().tcp_keepalive_time()?, Duration::from_secs(31));
    assert_eq!(socket.options().tcp_keepalive_interval()?, Duration::from_secs(7));
    assert_eq!(socket.options().tcp_keepalive_retries()?, 4);
    Ok(())
}

async fn options_of_another_kind_of_socket_are_refused() -> Outcome {
    let udp = Socket::udp_v4()?;
    assert!(udp.set_nodelay(true).is_err());
    assert!(udp.nodelay().is_err());
    let refused = udp.into_tcp_stream().expect_err("a datagram socket is no TCP connection");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("not a stream socket"), "{refused}");
    let refused = Socket::udp_v4()?.listen(1).map(drop);
    if cfg!(unix) {
        assert_errno(refused, errno::EOPNOTSUPP);
    } else {
        assert!(refused.is_err());
    }
    Ok(())
}

async fn an_address_is_bound_once() -> Outcome {
    let first = Socket::tcp_v4()?;
    first.bind(([127, 0, 0, 1], 0))?;
    let address = first.local_addr()?;
    assert_kind(first.bind(&address), std::io::ErrorKind::InvalidInput);
    assert_errno(Socket::tcp_v4()?.bind(&address), errno::EADDRINUSE);
    assert_errno(
        Socket::tcp_v4()?.bind(SocketAddress::v4([192, 0, 2, 1], 0)),
        errno::EADDRNOTAVAIL,
    );
    let listener = first.listen(8)?;
    assert_eq!(SocketAddress::from(listener.local_addr()?), address);
    Ok(())
}
