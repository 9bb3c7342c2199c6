//! Operations on fds in non-blocking mode, which wait nevertheless.

use std::future::ready;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use corio::op::*;
use corio::{RaceOutput, race};

use crate::harness::{
    Outcome, assert_errno, assert_kind, fill, is_nonblocking, refusing, set_nonblocking, settle,
    tcp_pair, watch,
};

every_driver! {
    a_recv_waits,
    a_recvmsg_waits,
    a_read_from_a_pipe_waits,
    an_accept_waits,
    a_connect_waits,
    a_refused_connect_is_refused,
    a_unix_connect_waits_for_the_backlog,
    a_unix_connect_is_cancelled_at_once,
    a_send_waits_for_room,
    a_write_to_a_full_pipe_waits,
    a_read_that_the_kernel_does_not_wait_for_waits,
    whole_transfers_wait_for_the_rest,
    dont_wait_means_would_block,
    a_wait_can_be_cancelled,
    a_cancel_right_after_the_start_is_not_would_block,
    a_wait_for_the_error_queue_does_not_spin,
    handles_made_from_std_are_in_non_blocking_mode,
}

/// Starts `op` in a task, and checks that it waits; evaluates to the task.
macro_rules! pending {
    ($op:expr) => {{
        let task = corio::spawn(async move { $op.await });
        settle().await;
        assert!(!task.is_finished(), "it must wait");
        task
    }};
}

fn pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let (a, b) = UnixStream::pair()?;
    a.set_nonblocking(true)?;
    b.set_nonblocking(true)?;
    Ok((a, b))
}

async fn a_recv_waits() -> Outcome {
    let (mut a, b) = pair()?;
    let recv = pending!(AsyncRecv::new(&b, vec![0; 64]));
    a.write_all(b"late")?;
    let (result, buf) = recv.await?;
    assert_eq!((result?, &buf[..]), (4, &b"late"[..]));
    Ok(())
}

async fn a_recvmsg_waits() -> Outcome {
    let (mut a, b) = pair()?;
    let recv = pending!(AsyncRecvmsg::new(&b, [[0; 2], [0; 2]]));
    a.write_all(b"late")?;
    let (result, bufs) = recv.await?;
    assert_eq!((result?.len, bufs), (4, [*b"la", *b"te"]));
    Ok(())
}

async fn a_read_from_a_pipe_waits() -> Outcome {
    for vectored in [false, true] {
        let (reader, mut writer) = std::io::pipe()?;
        set_nonblocking(&reader);
        let read = pending!(async move {
            if vectored {
                AsyncReadv::new(&reader, [[0; 4]], 0).await.1[0]
            } else {
                AsyncRead::at_position(&reader, [0; 4]).await.1
            }
        });
        writer.write_all(b"late")?;
        assert_eq!(read.await?, *b"late");
    }
    Ok(())
}

async fn an_accept_waits() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let accept = pending!(AsyncAccept::new(&listener));
    let client = std::net::TcpStream::connect(address)?;
    let (fd, peer) = accept.await??;
    assert_eq!(peer.as_inet(), Some(client.local_addr()?));
    assert!(is_nonblocking(&fd), "what is accepted is in non-blocking mode");
    Ok(())
}

async fn a_connect_waits() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    for _ in 0..20 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let client = std::net::TcpStream::from(socket);
        AsyncConnect::new(&client, listener.local_addr()?).await?;
        assert_eq!(client.peer_addr()?, listener.local_addr()?);
    }
    Ok(())
}

async fn a_refused_connect_is_refused() -> Outcome {
    let (closed, _kept) = refusing()?;
    for nonblocking in [false, true] {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(nonblocking)?;
        let client = std::net::TcpStream::from(socket);
        assert_kind(AsyncConnect::new(&client, closed).await, ErrorKind::ConnectionRefused);
    }
    Ok(())
}

async fn a_unix_connect_waits_for_the_backlog() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    socket2::SockRef::from(&listener).listen(0)?;
    let queued = UnixStream::connect(&path)?;
    for nonblocking in [false, true] {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(nonblocking)?;
        let address = corio::net::SocketAddress::unix(&path)?;
        let client = std::os::fd::OwnedFd::from(socket);
        let limit = Duration::from_millis(3);
        let limited = AsyncConnect::new(&client, &address).with_timeout(limit);
        assert_kind(limited.await, ErrorKind::TimedOut);
        let before = corio::stats().turns;
        let connect = pending!(AsyncConnect::new(&client, address));
        corio::sleep(Duration::from_millis(20)).await;
        let turns = corio::stats().turns - before;
        assert!(turns < 50, "{turns} turns, non-blocking: {nonblocking}");
        let _first = AsyncAccept::new(&listener).await?;
        connect.await??;
    }
    drop(queued);
    Ok(())
}

/// Its own socket is always writable, so that the kernel polls that over and over again at first.
async fn a_unix_connect_is_cancelled_at_once() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    socket2::SockRef::from(&listener).listen(0)?;
    let _queued = UnixStream::connect(&path)?;
    for turns in 1..5 {
        let address = corio::net::SocketAddress::unix(&path)?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        let client = std::os::fd::OwnedFd::from(socket);
        let connect = corio::spawn(async move { AsyncConnect::new(&client, address).await });
        for _ in 0..turns {
            corio::yield_now().await;
        }
        connect.cancel();
        let mut polls = 0;
        while !connect.is_finished() {
            polls += 1;
            assert!(polls < 1000, "the cancel was lost, after {turns} turns");
            corio::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

async fn a_send_waits_for_room() -> Outcome {
    for with_message in [false, true] {
        let (a, mut b) = tcp_pair()?;
        a.set_nonblocking(true)?;
        let queued = fill(&a)?;
        let send = pending!(async move {
            if with_message {
                AsyncSendmsg::new(&a, ["last"]).await.0
            } else {
                AsyncSend::new(&a, "last").await.0
            }
        });
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            b.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(send.await??, 4);
        let all = reading.join().expect("no panic")?;
        assert_eq!(all.len(), queued + 4);
        assert_eq!(&all[queued..], b"last");
    }
    Ok(())
}

async fn a_write_to_a_full_pipe_waits() -> Outcome {
    for vectored in [false, true] {
        let (mut reader, writer) = std::io::pipe()?;
        set_nonblocking(&writer);
        let queued = fill(&writer)?;
        let write = pending!(async move {
            if vectored {
                AsyncWritev::new(&writer, ["last"], 0).await.0
            } else {
                AsyncWrite::at_position(&writer, "last").await.0
            }
        });
        let mut first = vec![0; queued];
        reader.read_exact(&mut first)?;
        assert_eq!(write.await??, 4);
        let mut last = [0; 4];
        reader.read_exact(&mut last)?;
        assert_eq!(&last, b"last");
    }
    Ok(())
}

async fn a_read_that_the_kernel_does_not_wait_for_waits() -> Outcome {
    let dir = tempfile::tempdir()?;
    let watch = watch(dir.path())?;
    let limit = Duration::from_millis(2);
    let read = AsyncRead::at_position(&watch, vec![7; 256]);
    assert_kind(read.with_timeout(limit).await.0, ErrorKind::TimedOut);
    for vectored in [false, true] {
        let watch = watch.try_clone()?;
        let read = pending!(async move {
            if vectored {
                AsyncReadv::new(&watch, [vec![0; 256]], 0).await.1.concat()
            } else {
                AsyncRead::at_position(&watch, vec![0; 256]).await.1
            }
        });
        std::fs::write(dir.path().join(format!("vectored {vectored}")), "")?;
        let buf = read.await?;
        assert!(buf.windows(8).any(|name| name == b"vectored"));
    }
    Ok(())
}

async fn whole_transfers_wait_for_the_rest() -> Outcome {
    const LEN: usize = 3 << 20;
    let (a, b) = pair()?;
    let send = corio::spawn(async move { AsyncSendAll::new(&a, vec![7_u8; LEN]).await.0 });
    let (result, buf) = AsyncRecvExact::new(&b, vec![0; LEN]).await;
    result?;
    send.await??;
    assert!(buf.len() == LEN && buf.iter().all(|&byte| byte == 7));

    let (reader, writer) = std::io::pipe()?;
    set_nonblocking(&reader);
    set_nonblocking(&writer);
    let write = AsyncWriteAllAt::new(&writer, vec![7_u8; LEN], 0);
    let write = async { write.await.0 };
    let read = AsyncReadExactAt::new(&reader, vec![0; LEN], 0);
    let (written, (result, buf)) = futures_util::join!(write, read);
    written?;
    result?;
    assert!(buf.len() == LEN && buf.iter().all(|&byte| byte == 7));
    Ok(())
}

async fn dont_wait_means_would_block() -> Outcome {
    for nonblocking in [false, true] {
        let (a, b) = UnixStream::pair()?;
        a.set_nonblocking(true)?;
        let queued = fill(&a)?;
        assert!(queued > 0);
        a.set_nonblocking(nonblocking)?;
        let send = AsyncSend::with_flags(&a, "x", libc::MSG_DONTWAIT);
        assert_kind(send.await.0, ErrorKind::WouldBlock);
        let send = AsyncSendmsg::new(&a, ["x"]).flags(libc::MSG_DONTWAIT);
        assert_kind(send.await.0, ErrorKind::WouldBlock);
        // Nothing is received from the other direction.
        let (result, buf) = AsyncRecv::with_flags(&a, vec![7; 3], libc::MSG_DONTWAIT).await;
        assert_kind(result, ErrorKind::WouldBlock);
        assert_eq!(buf, [7; 3]);
        let (result, buf) = AsyncRecv::with_flags(&b, vec![0; 8], libc::MSG_DONTWAIT).await;
        assert_eq!((result?, buf), (8, vec![0x55; 8]));
    }
    Ok(())
}

async fn a_wait_can_be_cancelled() -> Outcome {
    let limit = Duration::from_millis(2);
    let (a, b) = pair()?;
    let (result, buf) = AsyncRecv::new(&b, vec![7; 3]).with_timeout(limit).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(buf, [7; 3]);
    fill(&a)?;
    assert_kind(AsyncSend::new(&a, "x").with_timeout(limit).await.0, ErrorKind::TimedOut);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let accept = AsyncAccept::new(&listener);
    assert_kind(accept.with_timeout(limit).await, ErrorKind::TimedOut);
    Ok(())
}

/// The kernel has answered `EAGAIN` before it sees the cancel.
async fn a_cancel_right_after_the_start_is_not_would_block() -> Outcome {
    let (reader, _writer) = std::io::pipe()?;
    set_nonblocking(&reader);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let dir = tempfile::tempdir()?;
    let watch = watch(dir.path())?;
    for _ in 0..10 {
        for fd in [reader.as_fd(), watch.as_fd()] {
            match race(AsyncRead::at_position(fd, vec![7; 256]), ready(())).await {
                RaceOutput::Second(Some((result, buf)), ()) => {
                    assert_errno(result, libc::ECANCELED);
                    assert_eq!(buf, [7; 256]);
                }
                other => panic!("{other:?}"),
            }
        }
        match race(AsyncAccept::new(&listener), ready(())).await {
            RaceOutput::Second(Some(result), ()) => assert_errno(result, libc::ECANCELED),
            other => panic!("{other:?}"),
        }
    }
    // An event that was reported before is returned.
    std::fs::write(dir.path().join("file"), "")?;
    let (result, buf) = AsyncRead::at_position(&watch, vec![7; 256]).await;
    assert!(result? > 0 && buf.windows(4).any(|name| name == b"file"));
    Ok(())
}

/// The socket is always readable, but its error queue is not.
async fn a_wait_for_the_error_queue_does_not_spin() -> Outcome {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    socket.send_to(b"data", socket.local_addr()?)?;
    let before = corio::stats().turns;
    let recv = AsyncRecv::with_flags(&socket, [0; 64], libc::MSG_ERRQUEUE);
    let (result, _) = recv.with_timeout(Duration::from_millis(20)).await;
    assert_kind(result, ErrorKind::TimedOut);
    let turns = corio::stats().turns - before;
    assert!(turns < 100, "{turns} turns");
    Ok(())
}

async fn handles_made_from_std_are_in_non_blocking_mode() -> Outcome {
    let (a, b) = tcp_pair()?;
    assert!(is_nonblocking(&corio::net::TcpStream::from(a)));
    assert!(is_nonblocking(&corio::net::TcpStream::from(b)));
    let (a, _b) = pair()?;
    assert!(is_nonblocking(&corio::net::UnixStream::from(a)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    assert!(is_nonblocking(&corio::net::TcpListener::from(listener)));
    Ok(())
}
