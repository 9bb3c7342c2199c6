//! Splice: from a socket to a pipe and on, without a copy.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use corio::net::{Stream, TcpStream, relay};
use corio::op::AsyncSplice;
use corio::{race, spawn};

use crate::harness::seccomp::{self, forbid};
use crate::harness::{
    Case, Outcome, SHORT, assert_errno, assert_kind, corio_tcp_pair, errno, fill, local_pair,
    noise, settle, tcp_pair,
};

every_driver! {
    a_splice_moves_parts_up_to_the_end,
    a_splice_waits_for_bytes_in_the_socket,
    a_splice_waits_for_room_in_the_socket,
    a_cancelled_splice_moves_nothing,
    a_splice_to_a_closed_peer_is_a_broken_pipe,
    other_kinds_of_files_are_refused,
    a_relay_copies_in_both_directions,
    a_cancelled_relay_ends,
    a_splice_with_a_pipe_that_is_not_ready_is_busy,
    a_splice_does_not_pass_urgent_data,
    an_error_ends_both_directions;
    cases:
    a_relay_works_without_splice,
}

async fn a_splice_moves_parts_up_to_the_end() -> Outcome {
    let (a, b) = local_pair()?;
    let (mut reader, writer) = std::io::pipe()?;
    a.send_all("hello world").await.0?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 5).await?, 5);
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 0).await?, 0);
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 1 << 16).await?, 6);
    let mut held = [0; 11];
    reader.read_exact(&mut held)?;
    assert_eq!(&held, b"hello world");
    a.close().await?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 1 << 16).await?, 0);
    Ok(())
}

async fn a_splice_waits_for_bytes_in_the_socket() -> Outcome {
    let (near, far) = tcp_pair()?;
    let near = TcpStream::from(near);
    let (reader, writer) = std::io::pipe()?;
    for round in 1..=3 {
        let mut far = &far;
        let moving = AsyncSplice::into_pipe(&near, &writer, 1 << 16);
        let sending = async {
            settle().await;
            far.write_all(&noise(round * 10))
        };
        let (moved, sent) = futures_util::future::join(moving, sending).await;
        sent?;
        let moved = moved?;
        let mut held = vec![0; moved];
        (&reader).read_exact(&mut held)?;
        assert_eq!(held, noise(round * 10)[..moved]);
    }
    Ok(())
}

async fn a_splice_waits_for_room_in_the_socket() -> Outcome {
    let (near, far) = tcp_pair()?;
    near.set_nonblocking(true)?;
    let filled = fill(&near)?;
    let near = TcpStream::from(near);
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"at last")?;
    let drain = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        let mut all = Vec::new();
        (&far).read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(AsyncSplice::out_of_pipe(&reader, &near, 7).await?, 7);
    near.close().await?;
    let all = drain.join().expect("no panic")?;
    assert_eq!((all.len(), &all[filled..]), (filled + 7, &b"at last"[..]));
    Ok(())
}

async fn a_cancelled_splice_moves_nothing() -> Outcome {
    let (a, b) = local_pair()?;
    let (mut reader, writer) = std::io::pipe()?;
    let splice = AsyncSplice::into_pipe(&b, &writer, 100);
    let error = splice.with_timeout(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    a.send_all("later").await.0?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 100).await?, 5);
    let mut held = [0; 5];
    reader.read_exact(&mut held)?;
    assert_eq!(&held, b"later");
    Ok(())
}

/// A splice does not wait for the pipe, and the pipe's state does not count as the socket's.
async fn a_splice_with_a_pipe_that_is_not_ready_is_busy() -> Outcome {
    let (a, b) = local_pair()?;
    let (mut reader, writer) = std::io::pipe()?;
    assert_errno(AsyncSplice::out_of_pipe(&reader, &a, 100).await, errno::EBUSY);
    a.send_all("one").await.0?;
    assert_eq!(&b.recv_exact([0; 3]).await.1, b"one");

    socket2::SockRef::from(&writer).set_nonblocking(true)?;
    let filled = fill(&writer)?;
    a.send_all("hello world").await.0?;
    assert_errno(AsyncSplice::into_pipe(&b, &writer, 100).await, errno::EBUSY);
    assert_eq!(&b.recv_exact([0; 6]).await.1, b"hello ");
    reader.read_exact(&mut vec![0; filled])?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 100).await?, 5);
    let mut held = [0; 5];
    reader.read_exact(&mut held)?;
    assert_eq!(&held, b"world");
    Ok(())
}

/// The kernel's answer at an urgent byte is that of an empty socket, or, once the peer has ended
/// its side, that of the end.
async fn a_splice_does_not_pass_urgent_data() -> Outcome {
    for ended in [false, true] {
        let (a, b) = corio_tcp_pair()?;
        let (_reader, writer) = std::io::pipe()?;
        a.send_all("abc").await.0?;
        a.options().send_out_of_band(b"X")?;
        assert_eq!(AsyncSplice::into_pipe(&b, &writer, 100).await?, 3);
        // The urgent byte by itself is not waited for.
        let alone = AsyncSplice::into_pipe(&b, &writer, 100).with_timeout(SHORT).await;
        assert_kind(alone, ErrorKind::TimedOut);
        a.send_all("def").await.0?;
        if ended {
            a.shutdown(std::net::Shutdown::Write).await?;
        }
        assert_errno(AsyncSplice::into_pipe(&b, &writer, 100).await, libc::EBADMSG);
        let (received, buf) = b.recv(Vec::with_capacity(100)).await;
        assert_eq!((received?, &buf[..]), (3, &b"def"[..]));
        a.close().await?;
        assert_eq!(AsyncSplice::into_pipe(&b, &writer, 100).await?, 0);
    }
    Ok(())
}

async fn a_splice_to_a_closed_peer_is_a_broken_pipe() -> Outcome {
    let (a, b) = local_pair()?;
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"never read")?;
    b.close().await?;
    assert_errno(AsyncSplice::out_of_pipe(&reader, &a, 100).await, errno::EPIPE);
    Ok(())
}

async fn other_kinds_of_files_are_refused() -> Outcome {
    let (a, b) = local_pair()?;
    a.send_all("x").await.0?;
    assert_errno(AsyncSplice::into_pipe(&b, &a, 100).await, errno::EINVAL);
    let (reader, _writer) = std::io::pipe()?;
    assert_errno(AsyncSplice::into_pipe(&b, &reader, 100).await, errno::EBADF);
    Ok(())
}

/// Sends `len` bytes and shuts its side down; returns what arrives until the other side ends.
async fn exchange(stream: TcpStream, len: usize) -> std::io::Result<Vec<u8>> {
    let sending = async {
        stream.send_all(noise(len)).await.0?;
        stream.shutdown(std::net::Shutdown::Write).await
    };
    let receiving = async {
        let mut total = Vec::new();
        loop {
            let (result, buf) = stream.recv(Vec::with_capacity(1 << 16)).await;
            if result? == 0 {
                return Ok(total);
            }
            total.extend_from_slice(&buf);
        }
    };
    let (sent, received) = futures_util::future::join(sending, receiving).await;
    sent.and(received)
}

async fn a_relay_copies_in_both_directions() -> Outcome {
    const LEN: usize = 3 << 20;
    let (client, a) = corio_tcp_pair()?;
    let (b, server) = corio_tcp_pair()?;
    let (a, b) = (Stream::from(a), Stream::from(b));
    let joined = spawn(async move { relay(&a, &b).await });
    let client = spawn(exchange(client, LEN));
    let server = spawn(exchange(server, LEN / 2));
    assert!(client.await.expect("no panic")? == noise(LEN / 2));
    assert!(server.await.expect("no panic")? == noise(LEN));
    assert_eq!(joined.await.expect("no panic")?, (LEN as u64, LEN as u64 / 2));
    Ok(())
}

async fn a_cancelled_relay_ends() -> Outcome {
    let (client, a) = corio_tcp_pair()?;
    // Of either type, without a conversion.
    let (b, _server) = corio::net::UnixStream::pair()?;
    client.send_all("hello").await.0?;
    let limit = corio::sleep(Duration::from_millis(2));
    match race(relay(&a, &b), limit).await {
        corio::RaceOutput::Second(_, ()) => {}
        corio::RaceOutput::First(result, _) => panic!("{result:?}"),
    }
    assert_eq!(corio::stats().in_flight, 0);
    Ok(())
}

/// One side is reset while the other direction only waits: the other side is reset, too.
async fn an_error_ends_both_directions() -> Outcome {
    let (client, a) = corio_tcp_pair()?;
    let (b, server) = corio_tcp_pair()?;
    let (a, b) = (Stream::from(a), Stream::from(b));
    client.send_all("hello").await.0?;
    let joined = spawn(async move { relay(&a, &b).await });
    server.recv_exact([0; 5]).await.0?;
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO))?;
    server.close().await?;
    let error = joined.await.expect("no panic").expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_kind(client.recv([0; 1]).await.0, ErrorKind::ConnectionReset);
    Ok(())
}

/// As in sandboxes whose seccomp filter refuses the call.
fn a_relay_works_without_splice(case: Case) -> Outcome {
    if !seccomp::is_here() {
        return Ok(());
    }
    for errno in [errno::EPERM, errno::ENOSYS, errno::EINVAL] {
        let call = libc::SYS_splice as u32;
        let thread = std::thread::spawn(move || {
            forbid(call..=call, errno).expect("a filter");
            let relayed = case.context().block_on(a_relay_copies_in_both_directions());
            relayed.map_err(|error| format!("errno {errno}: {error}"))
        });
        thread.join().expect("no panic")?;
    }
    Ok(())
}
