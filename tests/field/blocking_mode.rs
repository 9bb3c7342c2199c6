//! Handles that other code has put into blocking mode.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use corio::net::{Socket, TcpListener, UnixListener, UnixStream};
use corio::op::AsyncAccept;

use crate::harness::{Outcome, SHORT, assert_kind, is_nonblocking, set_blocking};

every_driver! {
    an_accept_on_a_listener_made_blocking_does_not_stop_the_loop,
    an_accept_on_a_listener_made_blocking_by_another_owner_does_not_stop_the_loop,
    a_connect_on_a_socket_made_blocking_does_not_stop_the_loop,
    transfers_on_a_stream_made_blocking_do_not_stop_the_loop,
}

async fn an_accept_on_a_listener_made_blocking_does_not_stop_the_loop() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.options().set_nonblocking(false)?;
    assert_kind(listener.accept().with_timeout(SHORT).await, std::io::ErrorKind::TimedOut);
    let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
    listener.accept().await?;

    let dir = tempfile::tempdir()?;
    let listener = UnixListener::bind(dir.path().join("socket"))?;
    set_blocking(&listener);
    assert_kind(listener.accept().with_timeout(SHORT).await, std::io::ErrorKind::TimedOut);
    Ok(())
}

/// Such as the parent process, or a duplicate that std has.
async fn an_accept_on_a_listener_made_blocking_by_another_owner_does_not_stop_the_loop() -> Outcome
{
    let first = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listener = TcpListener::from(first.try_clone()?);
    first.set_nonblocking(false)?;
    assert_kind(listener.accept().with_timeout(SHORT).await, std::io::ErrorKind::TimedOut);
    assert!(!is_nonblocking(&first), "the other owner's mode has changed");
    assert_kind(AsyncAccept::new(&first).with_timeout(SHORT).await, std::io::ErrorKind::TimedOut);

    let socket = Socket::tcp_v4()?;
    set_blocking(&socket);
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(8)?;
    assert_kind(listener.accept().with_timeout(SHORT).await, std::io::ErrorKind::TimedOut);
    Ok(())
}

async fn a_connect_on_a_socket_made_blocking_does_not_stop_the_loop() -> Outcome {
    // A listener whose queue is full answers no further connection.
    let full = Socket::tcp_v4()?;
    full.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let full = full.listen(0)?;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let stream = Socket::tcp_v4()?;
        set_blocking(&stream);
        let connected = stream.connect(full.local_addr()?).with_timeout(SHORT).await;
        waiting.push(stream);
        if connected.is_err() {
            assert_kind(connected, std::io::ErrorKind::TimedOut);
            return Ok(());
        }
    }
    panic!("a listener without a queue has queued {} connections", waiting.len());
}

async fn transfers_on_a_stream_made_blocking_do_not_stop_the_loop() -> Outcome {
    let (stream, mut peer) = std::os::unix::net::UnixStream::pair()?;
    let stream = UnixStream::from(OwnedFd::from(stream));
    set_blocking(&stream);
    let late = |result| assert_kind(result, std::io::ErrorKind::TimedOut);
    late(stream.recv([0; 8]).with_timeout(SHORT).await.0);
    late(stream.recv_exact([0; 8]).with_timeout(SHORT).await.0.map(|()| 0));
    // Until nothing more fits.
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(1 << 24)?;
    // In memory, so that a limit is reached only when the socket is full.
    std::io::copy(&mut file.as_file(), &mut std::io::sink())?;
    let file = corio::fs::File::open(file.path()).await?;
    while stream.send_file(&file, 0, 1 << 20).with_timeout(SHORT).await.is_ok() {}
    late(stream.send(vec![0; 1 << 20]).with_timeout(SHORT).await.0);
    peer.write_all(b"x")?;
    assert_eq!(stream.recv([0; 8]).await.0?, 1);
    assert!(peer.read(&mut [0; 8])? > 0);
    Ok(())
}
