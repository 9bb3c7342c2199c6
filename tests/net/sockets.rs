//! TCP and UDP: connections, their ends, and addresses.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

#[cfg(unix)]
use corio::net::UnixStream;
use corio::net::{Socket, SocketAddress, TcpListener, TcpStream};
use corio::op::{AsyncNop, AsyncRecv, AsyncSend};

use crate::harness::{
    Case, Outcome, assert_errno, assert_kind, corio_tcp_pair, errno, local_pair, noise, refusing,
    tcp_pair,
};
#[cfg(unix)]
use crate::harness::{exhaust_fds, is_cloexec, limit_fds};

every_driver! {
    listening_and_connecting_work_over_v4,
    listening_and_connecting_work_over_v6,
    bind_accepts_what_std_accepts,
    an_address_in_use_is_refused,
    a_handle_is_shown_with_its_addresses,
    a_half_closed_connection_still_works_in_the_other_direction,
    a_slow_reader_gets_every_byte,
    a_socket_sends_and_receives_at_once,
    datagrams_have_addresses,
    a_long_datagram_is_truncated,
    a_socket_becomes_a_stream;
    cases:
    a_connection_can_move_to_another_threads_context,
}

#[cfg(unix)]
every_driver! {
    a_connect_without_a_listener_is_refused,
    a_reset_is_an_error,
    sending_to_a_closed_peer_is_an_error,
    a_connected_datagram_socket_reports_a_refused_datagram,
    peeking_leaves_the_bytes,
    an_unspecified_v6_listener_accepts_v4,
    two_listeners_can_share_a_port,
    shutting_down_the_receiving_side_ends_a_receive,
    sends_with_msg_zerocopy_panic,
    options_of_a_handle_are_read_back,
    addresses_of_every_family_round_trip;
    cases:
    an_accept_without_a_free_fd_loses_no_connection,
    a_send_to_a_closed_peer_raises_no_signal,
}

async fn listening_and_connecting_work_over_v4() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    assert_ne!(address.port(), 0);
    let (connected, accepted) = futures_util::join!(TcpStream::connect(address), listener.accept());
    let (client, (server, peer)) = (connected?, accepted?);
    assert_eq!(client.peer_addr()?, address);
    assert_eq!(client.local_addr()?, peer);
    assert_eq!(server.local_addr()?, address);
    assert_eq!(server.peer_addr()?, peer);
    #[cfg(unix)]
    assert!(is_cloexec(&listener) && is_cloexec(&client) && is_cloexec(&server));
    client.send("ping").await.0?;
    assert_eq!(server.recv(vec![0; 64]).await.1, b"ping");
    server.close().await?;
    assert_eq!(client.recv(vec![0; 64]).await.0?, 0);
    client.close().await?;
    listener.close().await?;
    Ok(())
}

async fn listening_and_connecting_work_over_v6() -> Outcome {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (connected, accepted) = futures_util::join!(TcpStream::connect(address), listener.accept());
    let (client, (_server, peer)) = (connected?, accepted?);
    assert_eq!(client.local_addr()?, peer);
    assert!(peer.is_ipv6() && peer.ip().is_loopback());
    Ok(())
}

#[cfg(unix)]
async fn an_unspecified_v6_listener_accepts_v4() -> Outcome {
    let listener = TcpListener::bind("[::]:0")?;
    let port = listener.local_addr()?.port();
    for address in
        [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
    {
        let (connected, accepted) =
            futures_util::join!(TcpStream::connect(&address), listener.accept());
        let (_, peer) = accepted?;
        assert_eq!(SocketAddress::from(connected?.peer_addr()?), address);
        let ip = peer.ip();
        assert!(ip.to_canonical().is_loopback(), "{ip}");
    }
    Ok(())
}

async fn bind_accepts_what_std_accepts() -> Outcome {
    TcpListener::bind(("localhost", 0))?;
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    TcpListener::bind(String::from("127.0.0.1:0"))?;
    // The first address that can be bound.
    let addresses = [SocketAddr::from(([192, 0, 2, 1], 0)), SocketAddr::from(([127, 0, 0, 1], 0))];
    let listener = TcpListener::bind(&addresses[..])?;
    assert_eq!(listener.local_addr()?.ip(), addresses[1].ip());
    assert_kind(TcpListener::bind(&addresses[..1]), ErrorKind::AddrNotAvailable);
    assert_kind(TcpListener::bind(&[][..] as &[SocketAddr]), ErrorKind::InvalidInput);
    assert!(TcpListener::bind("no port").is_err());
    Ok(())
}

#[cfg(unix)]
async fn a_connect_without_a_listener_is_refused() -> Outcome {
    let (closed, _kept) = refusing()?;
    assert_kind(TcpStream::connect(closed).await, ErrorKind::ConnectionRefused);
    // No socket has port 0.
    assert!(TcpStream::connect(([127, 0, 0, 1], 0)).await.is_err());
    let socket = Socket::tcp_v4()?;
    assert_kind(socket.peer_addr(), ErrorKind::NotConnected);
    assert_kind(socket.recv([0; 1]).await.0, ErrorKind::NotConnected);
    assert_kind(socket.send("x").await.0, ErrorKind::BrokenPipe);
    assert_kind(socket.shutdown(Shutdown::Both).await, ErrorKind::NotConnected);
    // The wrong family.
    let v6 = SocketAddress::v6(Ipv6Addr::LOCALHOST, closed.port());
    assert_errno(socket.connect(v6).await, errno::EAFNOSUPPORT);
    Ok(())
}

async fn an_address_in_use_is_refused() -> Outcome {
    // std's listener does not share its port.
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    assert_kind(TcpListener::bind(other.local_addr()?), ErrorKind::AddrInUse);
    // Nor can a second program bind the port of a listener of this crate.
    let ours = TcpListener::bind("127.0.0.1:0")?;
    assert_kind(TcpListener::bind(ours.local_addr()?), ErrorKind::AddrInUse);
    #[cfg(unix)]
    assert_kind(TcpListener::bind_reuse_port(ours.local_addr()?), ErrorKind::AddrInUse);
    Ok(())
}

#[cfg(unix)]
async fn two_listeners_can_share_a_port() -> Outcome {
    let first = TcpListener::bind_reuse_port("127.0.0.1:0")?;
    let address = first.local_addr()?;
    let second = TcpListener::bind_reuse_port(address)?;
    // A listener without `SO_REUSEPORT` is refused.
    assert_kind(TcpListener::bind(address), ErrorKind::AddrInUse);
    // Every connection goes to one of the two, and none is lost.
    let clients: Vec<_> =
        (0..64).map(|_| std::net::TcpStream::connect(address)).collect::<Result<_, _>>()?;
    let mut accepted = [0, 0];
    for _ in &clients {
        use corio::RaceOutput::*;
        match corio::race(first.accept(), second.accept()).await {
            First(one, other) => {
                one?;
                accepted[0] += 1;
                accepted[1] += usize::from(matches!(other, Some(Ok(_))));
            }
            Second(other, one) => {
                one?;
                accepted[1] += 1;
                accepted[0] += usize::from(matches!(other, Some(Ok(_))));
            }
        }
        if accepted.iter().sum::<usize>() == clients.len() {
            break;
        }
    }
    assert_eq!(accepted.iter().sum::<usize>(), clients.len());
    assert!(accepted[0] > 0 && accepted[1] > 0, "{accepted:?}");
    Ok(())
}

async fn a_handle_is_shown_with_its_addresses() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address).await?;
    let shown = format!("{client:?}");
    let own = client.local_addr()?;
    assert!(shown.starts_with("TcpStream { fd: "), "{shown}");
    assert!(shown.ends_with(&format!(", local: {own}, peer: {address} }}")), "{shown}");
    let shown = format!("{listener:?}");
    assert!(shown.ends_with(&format!(", local: {address} }}")), "{shown}");
    Ok(())
}

async fn a_half_closed_connection_still_works_in_the_other_direction() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    a.send("question").await.0?;
    a.shutdown(Shutdown::Write).await?;
    assert_kind(a.send("more").await.0, ErrorKind::BrokenPipe);
    assert_eq!(b.recv(vec![0; 64]).await.1, b"question");
    assert_eq!(b.recv(vec![0; 64]).await.0?, 0);
    // The other way is still open.
    b.send("answer").await.0?;
    b.shutdown(Shutdown::Write).await?;
    assert_eq!(a.recv(vec![0; 64]).await.1, b"answer");
    assert_eq!(a.recv(vec![0; 64]).await.0?, 0);
    Ok(())
}

#[cfg(unix)]
async fn shutting_down_the_receiving_side_ends_a_receive() -> Outcome {
    for how in [Shutdown::Read, Shutdown::Both] {
        let (a, b) = local_pair()?;
        // It ends a receive that is waiting.
        let a = std::rc::Rc::new(a);
        let waiting = corio::spawn({
            let a = a.clone();
            async move { a.recv(vec![0; 64]).await.0 }
        });
        crate::harness::settle().await;
        a.shutdown(how).await?;
        assert_eq!(waiting.await??, 0);
        assert_kind(b.send("x").await.0, ErrorKind::BrokenPipe);
    }
    Ok(())
}

#[cfg(unix)]
async fn a_reset_is_an_error() -> Outcome {
    let reset = |stream: std::net::TcpStream| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    };
    // A reset ends a receive that waits,
    let (a, b) = tcp_pair()?;
    let a = TcpStream::from(a);
    let waiting = corio::spawn(async move { a.recv(vec![7; 8]).await });
    crate::harness::settle().await;
    reset(b)?;
    let (result, buf) = waiting.await?;
    assert_kind(result, ErrorKind::ConnectionReset);
    assert_eq!(buf, [7; 8]);
    // a later receive, after the bytes received before the reset,
    let (a, mut b) = tcp_pair()?;
    let a = TcpStream::from(a);
    b.write_all(b"last words")?;
    corio::op::AsyncPoll::new(&a, corio::op::Interest::READABLE).await?;
    reset(b)?;
    assert_eq!(a.recv(vec![0; 64]).await.1, b"last words");
    assert_kind(a.recv(vec![0; 64]).await.0, ErrorKind::ConnectionReset);
    // and a send that waits for room.
    let (a, b) = tcp_pair()?;
    let a = TcpStream::from(a);
    let waiting = corio::spawn(async move { a.send_all(vec![7; 64 << 20]).await });
    crate::harness::settle().await;
    assert!(!waiting.is_finished());
    reset(b)?;
    let (result, buf) = waiting.await?;
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert_eq!(buf.len(), 64 << 20);
    let moved = corio::op::Incomplete::of(&error).expect("the number of bytes sent").moved;
    assert!(moved > 0 && moved < 64 << 20, "{error}");
    Ok(())
}

#[cfg(unix)]
async fn sending_to_a_closed_peer_is_an_error() -> Outcome {
    let (a, b) = local_pair()?;
    b.close().await?;
    let (result, buf) = a.send(String::from("hello?")).await;
    assert_kind(result, ErrorKind::BrokenPipe);
    assert_eq!(buf, "hello?");
    assert_kind(a.send_all("x").await.0, ErrorKind::BrokenPipe);
    assert_kind(a.send_msg(["x"]).await.0, ErrorKind::BrokenPipe);
    Ok(())
}

/// In a child process, as signal dispositions belong to the process.
#[cfg(unix)]
fn a_send_to_a_closed_peer_raises_no_signal(case: Case) -> Outcome {
    case.alone(|| {
        // std ignores it; a program that is not all Rust may not.
        // SAFETY: sets a disposition.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        case.context().block_on(async {
            let (a, b) = local_pair()?;
            b.close().await?;
            assert_kind(a.send("x").await.0, ErrorKind::BrokenPipe);
            assert_kind(a.send_all("x").await.0, ErrorKind::BrokenPipe);
            assert_kind(a.send_msg(["x"]).await.0, ErrorKind::BrokenPipe);
            let file = crate::harness::file_with(b"contents")?;
            assert_kind(a.send_file(&file, 0, 8).await, ErrorKind::BrokenPipe);
            let (a, b) = corio_tcp_pair()?;
            b.close().await?;
            // The first send may still succeed; the peer answers it with a reset.
            while a.send("x").await.0.is_ok() {}
            assert_kind(a.send_file(&file, 0, 8).await, ErrorKind::BrokenPipe);
            Ok(())
        })
    })
}

async fn a_slow_reader_gets_every_byte() -> Outcome {
    const LEN: usize = 32 << 20;
    let (a, mut b) = tcp_pair()?;
    let a = TcpStream::from(a);
    let sent = noise(LEN);
    let reading = std::thread::spawn(move || {
        let mut all = Vec::with_capacity(LEN);
        let mut chunk = vec![0; 1 << 20];
        loop {
            match b.read(&mut chunk) {
                Ok(0) => return Ok(all),
                Ok(len) => all.extend_from_slice(&chunk[..len]),
                Err(error) => return Err(error),
            }
            if all.len() % 7 == 0 {
                std::thread::yield_now();
            }
        }
    });
    // Partial sends, by hand.
    use corio::buf::IoBuf;
    let mut buf = sent.clone();
    let mut moved = 0;
    while moved < LEN {
        let (result, part) = a.send(buf.slice(moved..)).await;
        moved += result?;
        buf = part.into_inner();
    }
    a.close().await?;
    let all = reading.join().expect("no panic")?;
    assert!(all == sent, "{} bytes came", all.len());
    Ok(())
}

async fn a_socket_sends_and_receives_at_once() -> Outcome {
    const LEN: usize = 4 << 20;
    let (a, b) = corio_tcp_pair()?;
    let sent = noise(LEN);
    // Both send more than fits into the sockets before either has received anything.
    let results = futures_util::join!(
        a.send_all(sent.clone()),
        b.send_all(sent.clone()),
        a.recv_exact(vec![0; LEN]),
        b.recv_exact(vec![0; LEN]),
    );
    results.0.0?;
    results.1.0?;
    results.2.0?;
    results.3.0?;
    assert!(results.2.1 == sent && results.3.1 == sent);
    Ok(())
}

async fn datagrams_have_addresses() -> Outcome {
    for v6 in [false, true] {
        let (a, b) = if v6 {
            (Socket::udp_v6()?, Socket::udp_v6()?)
        } else {
            (Socket::udp_v4()?, Socket::udp_v4()?)
        };
        let local = if v6 { "[::1]:0" } else { "127.0.0.1:0" }.parse::<SocketAddress>()?;
        a.bind(&local)?;
        b.bind(&local)?;
        assert_eq!(a.send_msg(["to ", "you"]).to(b.local_addr()?).await.0?, 6);
        let (result, bufs) = b.recv_msg([vec![0; 4], vec![0; 64]]).await;
        let message = result?;
        assert_eq!((message.len, bufs), (6, [b"to y".to_vec(), b"ou".to_vec()]));
        assert_eq!(message.address, Some(a.local_addr()?));
        assert!(!message.truncated && !message.control_truncated && message.fds.is_empty());
        // An empty datagram is one, too.
        assert_eq!(a.send_msg([""]).to(b.local_addr()?).await.0?, 0);
        let (result, _) = b.recv_msg([vec![0; 4]]).await;
        assert_eq!(result?.address, Some(a.local_addr()?));
        // A socket without a peer has no destination.
        if cfg!(unix) {
            assert_errno(a.send_msg(["x"]).await.0, errno::EDESTADDRREQ);
        } else {
            assert!(a.send_msg(["x"]).await.0.is_err());
        }
        // Larger than any datagram.
        let huge = a.send_msg([vec![0; 70_000]]).to(b.local_addr()?).await.0;
        assert_errno(huge, errno::EMSGSIZE);
    }
    Ok(())
}

async fn a_long_datagram_is_truncated() -> Outcome {
    let (a, b) = (Socket::udp_v4()?, Socket::udp_v4()?);
    b.bind(([127, 0, 0, 1], 0))?;
    a.send_msg(["0123456789"]).to(b.local_addr()?).await.0?;
    a.send_msg(["next"]).to(b.local_addr()?).await.0?;
    let (result, bufs) = b.recv_msg([[0; 2], [0; 2]]).await;
    let message = result?;
    assert_eq!((message.len, message.truncated, bufs), (4, true, [*b"01", *b"23"]));
    let (result, bufs) = b.recv_msg([vec![0; 64]]).await;
    let message = result?;
    assert_eq!((message.len, message.truncated, &bufs[0][..]), (4, false, &b"next"[..]));
    Ok(())
}

#[cfg(unix)]
async fn a_connected_datagram_socket_reports_a_refused_datagram() -> Outcome {
    let (a, b) = (Socket::udp_v4()?, Socket::udp_v4()?);
    a.bind(([127, 0, 0, 1], 0))?;
    b.bind(([127, 0, 0, 1], 0))?;
    a.connect(b.local_addr()?).await?;
    b.connect(a.local_addr()?).await?;
    a.send("by name").await.0?;
    assert_eq!(b.recv(vec![0; 64]).await.1, b"by name");
    // A port that hears another peer answers with an error. (Were it closed, another socket could
    // be given it.)
    b.connect(b.local_addr()?).await?;
    a.send("lost").await.0?;
    assert_kind(a.recv(vec![0; 64]).await.0, ErrorKind::ConnectionRefused);
    Ok(())
}

#[cfg(unix)]
async fn peeking_leaves_the_bytes() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("seen").await.0?;
    for _ in 0..2 {
        assert_eq!(AsyncRecv::with_flags(&b, vec![0; 64], libc::MSG_PEEK).await.1, b"seen");
    }
    assert_eq!(b.recv(vec![0; 64]).await.1, b"seen");
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // With this flag the result is not the number of bytes in the buffer.
        drop(AsyncRecv::with_flags(&b, [0; 1], libc::MSG_TRUNC));
    }));
    assert!(refused.is_err());
    Ok(())
}

/// With `MSG_ZEROCOPY` a send ends while the kernel still reads the buffer.
#[cfg(unix)]
async fn sends_with_msg_zerocopy_panic() -> Outcome {
    let (a, _b) = local_pair()?;
    let refused =
        |make: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).is_err();
    assert!(refused(&|| drop(AsyncSend::with_flags(&a, "x", libc::MSG_ZEROCOPY))));
    assert!(refused(&|| drop(a.send_msg(["x"]).flags(libc::MSG_ZEROCOPY | libc::MSG_MORE))));
    Ok(())
}

async fn a_socket_becomes_a_stream() -> Outcome {
    let socket = Socket::tcp_v6()?;
    socket.bind(SocketAddress::v6(Ipv6Addr::LOCALHOST, 0))?;
    let listener = socket.listen(16)?;
    let client = Socket::tcp_v6()?;
    let (connected, accepted) =
        futures_util::join!(client.connect(listener.local_addr()?), listener.accept());
    connected?;
    let (client, (server, _)) = (client.into_tcp_stream()?, accepted?);
    server.send("hello").await.0?;
    assert_eq!(client.recv_exact([0; 5]).await.1, *b"hello");
    Ok(())
}

#[cfg(unix)]
async fn options_of_a_handle_are_read_back() -> Outcome {
    let (a, _b) = corio_tcp_pair()?;
    a.options().set_keepalive(true)?;
    assert!(a.options().keepalive()?);
    Ok(())
}

#[cfg(unix)]
async fn addresses_of_every_family_round_trip() -> Outcome {
    let v4: SocketAddress = "192.0.2.7:80".parse()?;
    let v6: SocketAddress = "[2001:db8::7]:80".parse()?;
    assert_eq!((v4.to_string(), v4.port()), ("192.0.2.7:80".into(), Some(80)));
    assert_eq!((v6.to_string(), v6.port()), ("[2001:db8::7]:80".into(), Some(80)));
    assert_eq!(SocketAddress::any(7).to_string(), "0.0.0.0:7");
    assert!("localhost:80".parse::<SocketAddress>().is_err());
    let unix = SocketAddress::unix("/run/socket")?;
    assert_eq!((unix.port(), unix.as_inet()), (None, None));
    assert_ne!(v4, unix);
    // 107 bytes and the NUL that ends them are the most that fits.
    assert!(SocketAddress::unix("x".repeat(107)).is_ok());
    assert_kind(SocketAddress::unix("x".repeat(109)), ErrorKind::InvalidInput);
    assert_kind(SocketAddress::unix("/run\0socket"), ErrorKind::InvalidInput);
    #[cfg(target_os = "linux")]
    assert!(SocketAddress::unix("\0abstract")?.as_path().is_none());
    let local = SocketAddress::resolve_blocking("localhost:80")?;
    assert!(local.iter().all(|found| found.port() == Some(80)));
    assert!(SocketAddress::resolve_blocking("no port at all").is_err());
    assert_eq!((v4.ip(), unix.ip()), (Some([192, 0, 2, 7].into()), None));
    let (a, _b) = local_pair()?;
    assert_eq!(a.local_addr()?.to_string(), "(unnamed)");
    Ok(())
}

#[cfg(unix)]
fn an_accept_without_a_free_fd_loses_no_connection(case: Case) -> Outcome {
    case.alone(|| {
        case.context().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            // In one round the connection waits for the accept, in the other the accept waits.
            for waits in [false, true] {
                let socket = Socket::tcp_v4()?;
                let old = if waits {
                    let accept = listener.accept();
                    let trying = async {
                        crate::harness::settle().await;
                        let old = exhaust_fds()?;
                        socket.connect(address).await?;
                        Ok::<_, std::io::Error>(old)
                    };
                    let (accepted, old) = futures_util::join!(accept, trying);
                    // The kernel may have set an fd aside when the wait began.
                    if let Ok((fd, _)) = accepted {
                        limit_fds(old?)?;
                        drop(fd);
                        continue;
                    }
                    assert_errno(accepted, errno::EMFILE);
                    old?
                } else {
                    let old = exhaust_fds()?;
                    socket.connect(address).await?;
                    old
                };
                assert_errno(listener.accept().await, errno::EMFILE);
                assert_errno(listener.accept().await, errno::EMFILE);
                limit_fds(old)?;
                // The connection still waits in the queue.
                let (_server, peer) = listener.accept().await?;
                assert_eq!(SocketAddress::from(peer), socket.local_addr()?);
            }
            Ok(())
        })
    })
}

/// `Send` while nothing is in flight, which the compiler checks here.
#[allow(dead_code)]
fn handles_are_send() {
    fn is_send<T: Send>() {}
    is_send::<TcpListener>();
    is_send::<TcpStream>();
    #[cfg(unix)]
    is_send::<UnixStream>();
    is_send::<Socket>();
    is_send::<corio::fs::File>();
    is_send::<SocketAddress>();
    is_send::<corio::Handle>();
    is_send::<corio::SetupError>();
    is_send::<corio::op::Received>();
}

/// Fails to compile if a type is `Send` (or `Sync`, or `Unpin`): then both implementations fit.
macro_rules! assert_not {
    ($trait:path: $($ty:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait Ambiguous<A> { fn check() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Both;
            impl<T: ?Sized + $trait> Ambiguous<Both> for T {}
            let _ = <$ty as Ambiguous<_>>::check;
        };
    )+};
}

assert_not!(Send: AsyncNop, AsyncRecv<'static, Vec<u8>>, corio::op::AsyncAccept<'static>,
    corio::op::WithTimeout<corio::op::Nop>, corio::IoContext, corio::JoinHandle<()>,
    corio::op::FixedFile, corio::op::FixedFiles);
assert_not!(Sync: TcpStream, corio::fs::File, AsyncNop);
assert_not!(Unpin: AsyncNop, AsyncRecv<'static, Vec<u8>>, corio::time::AsyncSleep);

fn a_connection_can_move_to_another_threads_context(case: Case) -> Outcome {
    let mut context = case.context();
    let (server, client) = context.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let connecting = TcpStream::connect(listener.local_addr()?);
        let (client, accepted) = futures_util::join!(connecting, listener.accept());
        let (client, (server, _)) = (client?, accepted?);
        client.send("before").await.0?;
        assert_eq!(server.recv_exact([0; 6]).await.1, *b"before");
        Ok::<_, std::io::Error>((server, client))
    })?;
    let echo = std::thread::spawn(move || {
        case.context().block_on(async {
            let (result, buf) = server.recv_exact([0; 5]).await;
            result?;
            server.send_all(buf).await.0
        })
    });
    context.block_on(async {
        client.send("after").await.0?;
        let (result, buf) = client.recv_exact([0; 5]).await;
        assert_eq!((result?, &buf), ((), b"after"));
        Ok::<_, std::io::Error>(())
    })?;
    echo.join().expect("no panic")?;
    Ok(())
}
