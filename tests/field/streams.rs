//! Bytes and errors that a receive stream has received and no operation has returned.

use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use corio::net::{TcpListener, TcpStream, relay};
use corio::op::{AsyncPoll, AsyncRead, AsyncRecv, AsyncSplice, Interest, Readiness};
use corio::spawn;

use crate::harness::{
    Case, LocalStream, Outcome, assert_kind, ended, file_with, local_pair, settle,
};

every_driver! {
    an_error_of_a_dropped_receive_is_returned_by_the_next,
    an_error_of_a_dropped_receive_is_returned_after_the_stream,
    a_reset_beside_a_tick_is_never_a_clean_end,
    a_receive_that_was_dropped_with_its_bytes_leaves_them_to_recv,
    bytes_received_ahead_come_first_from_recv,
    bytes_received_ahead_come_first_from_recv_exact,
    bytes_received_ahead_come_first_from_recv_msg,
    bytes_received_ahead_come_first_from_read,
    bytes_received_ahead_come_first_from_splice,
    bytes_received_ahead_come_first_from_another_stream,
    a_stream_that_is_used_again_has_what_a_later_one_has_received,
    a_splice_moves_no_more_than_asked_for_after_a_yield,
    bytes_received_ahead_come_first_beside_their_stream,
    bytes_received_ahead_can_be_peeked_at,
    bytes_received_ahead_make_a_handle_readable,
    bytes_received_ahead_are_relayed,
    bytes_received_ahead_are_handed_over,
    a_dropped_stream_takes_no_more_bytes,
    streams_that_are_dropped_in_any_order_lose_nothing;
    cases:
    bytes_received_ahead_follow_their_handle_to_another_thread,
}

const REST: &[u8] = b"0123456789";

/// Two ends, the second of which a stream has received from: a head, and, on io_uring, ten bytes
/// more.
async fn ten_bytes_ahead() -> std::io::Result<(LocalStream, LocalStream)> {
    let (a, b) = local_pair()?;
    let mut stream = b.recv_stream();
    receive_ahead(&a, &mut stream).await?;
    drop(stream);
    Ok((a, b))
}

async fn receive_ahead(
    from: &LocalStream,
    stream: &mut corio::op::RecvStream<'_>,
) -> std::io::Result<()> {
    from.send_all("head").await.0?;
    assert_eq!(stream.recv().await?.as_deref(), Some(&b"head"[..]));
    from.send_all(REST).await.0?;
    settle().await;
    Ok(())
}

/// A connection, and its other end as std's.
async fn connection() -> std::io::Result<(std::net::TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
    Ok((peer, listener.accept().await?.0))
}

fn reset(peer: std::net::TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO))
}

/// Leaves an operation in flight when the peer resets the connection, and drops it when it has
/// ended, without polling it again.
async fn drop_with_a_reset(
    stream: &mut corio::op::RecvStream<'_>,
    peer: std::net::TcpStream,
) -> std::io::Result<()> {
    let mut receive = Box::pin(stream.recv());
    // No task is woken at its end.
    assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    reset(peer)?;
    ended().await;
    Ok(())
}

async fn an_error_of_a_dropped_receive_is_returned_by_the_next() -> Outcome {
    let (mut peer, server) = connection().await?;
    let mut stream = server.recv_stream();
    peer.write_all(b"half a message")?;
    assert_eq!(stream.recv().await?.as_deref(), Some(&b"half a message"[..]));
    drop_with_a_reset(&mut stream, peer).await?;
    assert_kind(stream.recv().await, ErrorKind::ConnectionReset);
    assert!(stream.recv().await?.is_none(), "an error is returned once");
    Ok(())
}

async fn an_error_of_a_dropped_receive_is_returned_after_the_stream() -> Outcome {
    for other in [false, true] {
        let (peer, server) = connection().await?;
        let mut stream = server.recv_stream();
        drop_with_a_reset(&mut stream, peer).await?;
        drop(stream);
        if other {
            assert_kind(server.recv_stream().recv().await, ErrorKind::ConnectionReset);
        }
        let (result, _) = server.recv([0; 8]).await;
        if other {
            assert_eq!(result?, 0);
        } else {
            assert_kind(result, ErrorKind::ConnectionReset);
        }
    }
    Ok(())
}

/// What a handler with a tick does: the loser of each round is dropped.
async fn a_reset_beside_a_tick_is_never_a_clean_end() -> Outcome {
    for round in 0..100 {
        let (peer, server) = connection().await?;
        let mut stream = server.recv_stream();
        let resetting = spawn(async move {
            for _ in 0..round % 7 {
                corio::yield_now().await;
            }
            reset(peer)
        });
        let result = loop {
            let mut receive = pin!(stream.recv());
            let mut tick = pin!(corio::sleep(Duration::from_micros(round % 5 * 50)));
            let first = std::future::poll_fn(|cx| {
                let tick = tick.as_mut().poll(cx).map(|()| None);
                if tick.is_ready() { tick } else { receive.as_mut().poll(cx).map(Some) }
            });
            if let Some(result) = first.await {
                break result;
            }
        };
        assert_kind(result, ErrorKind::ConnectionReset);
        resetting.await.unwrap()?;
    }
    Ok(())
}

async fn a_receive_that_was_dropped_with_its_bytes_leaves_them_to_recv() -> Outcome {
    let (a, b) = local_pair()?;
    let mut stream = b.recv_stream();
    let mut receive = Box::pin(stream.recv());
    assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    a.send_all("first").await.0?;
    ended().await;
    drop(receive);
    drop(stream);
    a.send_all("second").await.0?;
    let (result, bytes) = b.recv_exact([0; 11]).await;
    result?;
    assert_eq!(&bytes, b"firstsecond");
    Ok(())
}

async fn bytes_received_ahead_come_first_from_recv() -> Outcome {
    let (a, b) = ten_bytes_ahead().await?;
    let (result, bytes) = b.recv([0; 4]).await;
    assert_eq!((result?, &bytes), (4, b"0123"));
    let (result, bytes) = b.recv(Vec::with_capacity(100)).await;
    assert_eq!((result?, &bytes[..]), (6, &b"456789"[..]));
    a.send_all("later").await.0?;
    assert_eq!(b.recv(vec![0; 100]).await.1, b"later");
    drop(a);
    assert_eq!(b.recv([0; 1]).await.0?, 0);
    Ok(())
}

async fn bytes_received_ahead_come_first_from_recv_exact() -> Outcome {
    let (a, b) = ten_bytes_ahead().await?;
    let (result, bytes) = b.recv_exact([0; 4]).await;
    result?;
    assert_eq!(&bytes, b"0123");
    let sending = spawn(async move { a.send_all("abc").await.0 });
    let (result, bytes) = b.recv_exact([0; 9]).await;
    result?;
    assert_eq!(&bytes, b"456789abc");
    sending.await.unwrap()?;
    Ok(())
}

async fn bytes_received_ahead_come_first_from_recv_msg() -> Outcome {
    let (a, b) = ten_bytes_ahead().await?;
    let (result, bytes) = b.recv_msg([[0; 3], [0; 3]]).await;
    let received = result?;
    assert_eq!((received.len, bytes), (6, [*b"012", *b"345"]));
    assert!(received.address.is_none() && received.fds.is_empty() && !received.truncated);
    let (result, bytes) = b.recv_msg([[0; 3], [0; 3]]).await;
    assert_eq!((result?.len, bytes), (4, [*b"678", [b'9', 0, 0]]));
    drop(a);
    Ok(())
}

async fn bytes_received_ahead_come_first_from_read() -> Outcome {
    let (_a, b) = ten_bytes_ahead().await?;
    let (result, bytes) = AsyncRead::at_position(&b, [0; 4]).await;
    assert_eq!((result?, &bytes), (4, b"0123"));
    let (result, bytes) = corio::op::AsyncReadv::new(&b, [[0; 4], [0; 4]], 0).await;
    assert_eq!((result?, bytes[0], &bytes[1][..2]), (6, *b"4567", &b"89"[..]));
    Ok(())
}

async fn bytes_received_ahead_come_first_from_splice() -> Outcome {
    let (a, b) = ten_bytes_ahead().await?;
    let (mut reader, writer) = std::io::pipe()?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 4).await?, 4);
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut reader, &mut bytes)?;
    assert_eq!(&bytes, b"0123");
    let (result, bytes) = b.recv_exact([0; 6]).await;
    result?;
    assert_eq!(&bytes, b"456789");
    a.send_all("x").await.0?;
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 4).await?, 1);
    Ok(())
}

async fn bytes_received_ahead_come_first_from_another_stream() -> Outcome {
    let (a, b) = ten_bytes_ahead().await?;
    let mut stream = b.recv_stream();
    a.send_all("later").await.0?;
    let mut bytes = Vec::new();
    while bytes.len() < 15 {
        bytes.extend_from_slice(&stream.recv().await?.expect("more"));
    }
    assert_eq!(bytes, b"0123456789later");
    // Also while the first exists.
    a.send_all("once more").await.0?;
    settle().await;
    let mut second = b.recv_stream();
    assert_eq!(second.recv().await?.as_deref(), Some(&b"once more"[..]));
    Ok(())
}

async fn a_stream_that_is_used_again_has_what_a_later_one_has_received() -> Outcome {
    let (a, b) = local_pair()?;
    let mut first = b.recv_stream();
    receive_ahead(&a, &mut first).await?;
    let mut second = b.recv_stream();
    assert_eq!(second.recv().await?.as_deref(), Some(REST));
    a.send_all("second, ").await.0?;
    settle().await;
    drop(second);
    a.send_all("first").await.0?;
    let mut bytes = Vec::new();
    while bytes.len() < 13 {
        bytes.extend_from_slice(&first.recv().await?.expect("more"));
    }
    assert_eq!(bytes, b"second, first");
    // It is the handle's stream again.
    a.send_all("last").await.0?;
    settle().await;
    assert_eq!(b.recv_exact([0; 4]).await.1, *b"last");
    Ok(())
}

async fn a_splice_moves_no_more_than_asked_for_after_a_yield() -> Outcome {
    let (_a, b) = ten_bytes_ahead().await?;
    let file = file_with(b"x")?;
    let (mut reader, writer) = std::io::pipe()?;
    // Reads of a cached file end at once, so that the splice finds no budget left.
    for _ in 0..64 {
        assert_eq!(AsyncRead::new(&file, [0; 1], 0).await.0?, 1);
    }
    assert_eq!(AsyncSplice::into_pipe(&b, &writer, 4).await?, 4);
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut reader, &mut bytes)?;
    assert_eq!(&bytes, b"0123");
    assert_eq!(b.recv_exact([0; 6]).await.1, *b"456789");
    Ok(())
}

async fn bytes_received_ahead_come_first_beside_their_stream() -> Outcome {
    let (a, b) = local_pair()?;
    let mut stream = b.recv_stream();
    receive_ahead(&a, &mut stream).await?;
    let (result, bytes) = b.recv([0; 4]).await;
    assert_eq!((result?, &bytes), (4, b"0123"));
    // The stream goes on behind them.
    let mut bytes = Vec::new();
    while bytes.len() < 6 {
        bytes.extend_from_slice(&stream.recv().await?.expect("more"));
    }
    assert_eq!(bytes, b"456789");
    a.send_all("later").await.0?;
    assert_eq!(b.recv(vec![0; 9]).await.1, b"later");
    a.send_all("last").await.0?;
    assert_eq!(stream.recv().await?.as_deref(), Some(&b"last"[..]));
    Ok(())
}

async fn bytes_received_ahead_can_be_peeked_at() -> Outcome {
    let (_a, b) = ten_bytes_ahead().await?;
    for _ in 0..2 {
        let (result, bytes) = AsyncRecv::with_flags(&b, [0; 4], libc::MSG_PEEK).await;
        assert_eq!((result?, &bytes), (4, b"0123"));
    }
    let (result, bytes) = AsyncRecv::with_flags(&b, [0; 10], libc::MSG_DONTWAIT).await;
    assert_eq!((result?, &bytes[..]), (10, REST));
    let (result, _) = AsyncRecv::with_flags(&b, [0; 10], libc::MSG_DONTWAIT).await;
    assert_kind(result, ErrorKind::WouldBlock);
    Ok(())
}

async fn bytes_received_ahead_make_a_handle_readable() -> Outcome {
    let (_a, b) = ten_bytes_ahead().await?;
    let ready = AsyncPoll::new(&b, Interest::READABLE).await?;
    assert!(ready.contains(Readiness::READABLE));
    assert_eq!(b.recv(vec![0; 99]).await.1, REST);
    let poll = AsyncPoll::new(&b, Interest::READABLE);
    assert_kind(poll.with_timeout(Duration::from_millis(1)).await, ErrorKind::TimedOut);
    Ok(())
}

/// A proxy that reads a head and then switches.
async fn bytes_received_ahead_are_relayed() -> Outcome {
    for dropped in [false, true] {
        let (client, a) = local_pair()?;
        let (b, upstream) = local_pair()?;
        let relaying = spawn(async move {
            let mut stream = a.recv_stream();
            assert_eq!(stream.recv().await?.as_deref(), Some(&b"head"[..]));
            settle().await;
            if dropped {
                drop(stream);
            }
            relay(&a, &b).await
        });
        client.send_all("head").await.0?;
        corio::yield_now().await;
        client.send_all(REST).await.0?;
        settle().await;
        client.send_all("later").await.0?;
        client.shutdown(std::net::Shutdown::Write).await?;
        let (result, bytes) = upstream.recv_exact([0; 15]).await;
        result?;
        assert_eq!(&bytes, b"0123456789later");
        drop(upstream);
        assert_eq!(relaying.await.unwrap()?, (15, 0));
    }
    Ok(())
}

async fn bytes_received_ahead_are_handed_over() -> Outcome {
    let (a, b) = local_pair()?;
    let mut stream = b.recv_stream();
    receive_ahead(&a, &mut stream).await?;
    let mut bytes = stream.into_received();
    let fd = std::os::fd::OwnedFd::try_from(b)?;
    let mut plain = std::os::unix::net::UnixStream::from(fd);
    plain.set_nonblocking(false)?;
    drop(a);
    std::io::Read::read_to_end(&mut plain, &mut bytes)?;
    assert_eq!(bytes, REST);
    Ok(())
}

/// Another fd of the socket receives what is sent after the drop, without a turn between.
async fn a_dropped_stream_takes_no_more_bytes() -> Outcome {
    let (mut a, b) = crate::harness::std_pair()?;
    let mut other = b.try_clone()?;
    let b = LocalStream::from(b);
    let mut stream = b.recv_stream();
    a.write_all(b"head")?;
    assert_eq!(stream.recv().await?.as_deref(), Some(&b"head"[..]));
    drop(stream);
    a.write_all(REST)?;
    let mut bytes = [0; 10];
    std::io::Read::read_exact(&mut other, &mut bytes)?;
    assert_eq!(&bytes[..], REST);
    Ok(())
}

/// The kernel fills one buffer for all sockets, in the order in which bytes arrive.
async fn streams_that_are_dropped_in_any_order_lose_nothing() -> Outcome {
    const PAIRS: usize = 20;
    let pairs: Vec<_> = (0..PAIRS).map(|_| local_pair()).collect::<Result<_, _>>()?;
    let mut streams: Vec<_> = pairs.iter().map(|(_, b)| Some(b.recv_stream())).collect();
    for (index, (a, _)) in pairs.iter().enumerate() {
        a.send_all([index as u8]).await.0?;
        streams[index].as_mut().unwrap().recv().await?;
    }
    for round in 0..50_usize {
        for (index, (a, _)) in pairs.iter().enumerate() {
            a.send_all(vec![index as u8; 100 + index * round]).await.0?;
        }
        let dropped = round * 7 % PAIRS;
        let mut received = [0; PAIRS];
        streams[dropped] = None;
        for (index, (_, b)) in pairs.iter().enumerate() {
            let wanted = 100 + index * round;
            while received[index] < wanted {
                let bytes = match &mut streams[index] {
                    Some(stream) => stream.recv().await?.expect("more").to_vec(),
                    None => b.recv(vec![0; 64]).await.1,
                };
                assert!(bytes.iter().all(|&byte| byte == index as u8), "round {round}");
                received[index] += bytes.len();
            }
            assert_eq!(received[index], wanted, "pair {index}, round {round}");
        }
        let mut again = pairs[dropped].1.recv_stream();
        if round % 2 == 0 {
            // In flight, so that the kernel receives by itself.
            let limited = again.recv().with_timeout(Duration::from_micros(1));
            assert_kind(limited.await, ErrorKind::TimedOut);
        }
        streams[dropped] = Some(again);
    }
    Ok(())
}

fn bytes_received_ahead_follow_their_handle_to_another_thread(case: Case) -> Outcome {
    let (a, b) = case.context().block_on(ten_bytes_ahead())?;
    let received = std::thread::spawn(move || {
        let mut context = case.context();
        context.block_on(async {
            a.send_all("later").await.0?;
            let (result, bytes) = b.recv_exact([0; 15]).await;
            result?;
            Ok::<_, std::io::Error>(bytes)
        })
    });
    assert_eq!(&received.join().unwrap()?, b"0123456789later");
    Ok(())
}
