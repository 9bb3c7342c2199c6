//! Time limits: the buffer comes back, and no success is lost.

use std::io::{ErrorKind, Read, Write};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use corio::op::*;

use crate::harness::{Outcome, assert_kind, fill, noise, tcp_pair};

every_driver! {
    an_operation_that_is_ready_beats_any_limit,
    a_limit_of_duration_max_never_elapses,
    a_limit_counts_from_the_first_poll,
    a_late_recv_loses_no_byte,
    a_late_accept_loses_no_connection,
    a_connect_without_an_answer_times_out,
}

#[cfg(unix)]
every_driver! {
    an_open_that_waits_for_another_program_times_out,
    every_family_times_out_and_gives_its_buffer_back,
    a_late_recv_message_loses_no_fd,
    a_late_send_sends_once_or_never,
    an_operation_on_a_kernel_worker_is_not_interrupted_but_timed_out,
    a_transfer_that_never_waits_times_out,
}

const SHORT: Duration = Duration::from_millis(2);

#[cfg(unix)]
async fn every_family_times_out_and_gives_its_buffer_back() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let (result, buf) = AsyncRecv::new(&a, vec![7; 64]).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(buf, [7; 64]);
    let (result, bufs) = AsyncRecvmsg::new(&a, [[7; 4], [8; 4]]).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(bufs, [[7; 4], [8; 4]]);
    let poll = AsyncPoll::new(&a, Interest::READABLE);
    assert_kind(poll.with_timeout(SHORT).await, ErrorKind::TimedOut);

    let (reader, writer) = std::io::pipe()?;
    let (result, buf) = AsyncRead::at_position(&reader, vec![7; 64]).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(buf, [7; 64]);
    let readv = AsyncReadv::new(&reader, vec![vec![7; 3]; 20], 0);
    let (result, bufs) = readv.with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(bufs, vec![vec![7; 3]; 20]);

    b.set_nonblocking(true)?;
    fill(&b)?;
    b.set_nonblocking(false)?;
    let (result, buf) = AsyncSend::new(&b, String::from("back")).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(buf, "back");
    let sendmsg = AsyncSendmsg::new(&b, [String::from("back")]);
    let (result, bufs) = sendmsg.with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(bufs, ["back"]);

    crate::harness::set_nonblocking(&writer);
    fill(&writer)?;
    let (result, buf) = AsyncWrite::at_position(&writer, vec![7; 64]).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(buf, [7; 64]);
    let (result, bufs) = AsyncWritev::new(&writer, vec!["x"; 20], 0).with_timeout(SHORT).await;
    assert_kind(result, ErrorKind::TimedOut);
    assert_eq!(bufs, ["x"; 20]);

    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    assert_kind(AsyncAccept::new(&listener).with_timeout(SHORT).await, ErrorKind::TimedOut);
    Ok(())
}

async fn an_operation_that_is_ready_beats_any_limit() -> Outcome {
    let (mut a, b) = tcp_pair()?;
    for _ in 0..100 {
        a.write_all(b"x")?;
        // A busy kernel delivers it a moment later.
        b.peek(&mut [0; 1])?;
        let (result, _) = AsyncRecv::new(&b, [0; 1]).with_timeout(Duration::ZERO).await;
        assert_eq!(result?, 1);
    }
    AsyncNop::new().with_timeout(Duration::ZERO).await?;
    let (result, _) = AsyncRecv::new(&b, [0; 1]).with_timeout(Duration::ZERO).await;
    assert_kind(result, ErrorKind::TimedOut);
    Ok(())
}

async fn a_limit_of_duration_max_never_elapses() -> Outcome {
    let (mut a, b) = tcp_pair()?;
    let waiting =
        corio::spawn(async move { AsyncRecv::new(&b, [0; 1]).with_timeout(Duration::MAX).await.0 });
    crate::harness::settle().await;
    a.write_all(b"x")?;
    assert_eq!(waiting.await??, 1);
    Ok(())
}

async fn a_limit_counts_from_the_first_poll() -> Outcome {
    let (_a, b) = tcp_pair()?;
    let limited = AsyncRecv::new(&b, [0; 1]).with_timeout(Duration::from_millis(20));
    std::thread::sleep(Duration::from_millis(25));
    let start = Instant::now();
    assert_kind(limited.await.0, ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(20));
    Ok(())
}

/// Time limits, and how long the loop is held: both the deadline and the operation pass meanwhile.
fn delays() -> impl Iterator<Item = (Duration, Duration)> {
    (0..300).map(|round: u64| {
        (Duration::from_micros(round * 13 % 400), Duration::from_micros(round * 29 % 700))
    })
}

/// Runs `act` at about the time when the limit elapses.
async fn meanwhile<T>(limited: impl Future<Output = T>, hold: Duration, act: impl FnOnce()) -> T {
    let acting = async {
        // The loop is blocked meanwhile, so that everything is due in the same turn.
        std::thread::sleep(hold);
        act();
        corio::yield_now().await;
    };
    futures_util::join!(limited, acting).0
}

async fn a_late_recv_loses_no_byte() -> Outcome {
    let (mut a, b) = tcp_pair()?;
    let sent = noise(300 * 5);
    let mut received = Vec::new();
    let mut chunks = sent.chunks(5);
    let (mut in_time, mut late) = (0, 0);
    for (limit, hold) in delays() {
        let chunk = chunks.next().expect("one for each round");
        let recv = AsyncRecv::new(&b, Vec::with_capacity(64)).with_timeout(limit);
        let (result, buf) = meanwhile(recv, hold, || a.write_all(chunk).expect("room")).await;
        match result {
            Ok(len) => {
                assert_eq!(len, buf.len());
                received.extend_from_slice(&buf);
                in_time += 1;
            }
            Err(error) => {
                assert_eq!((error.kind(), buf.len()), (ErrorKind::TimedOut, 0));
                late += 1;
            }
        }
    }
    drop(a);
    while received.len() <= sent.len() {
        let (result, buf) = AsyncRecv::new(&b, Vec::with_capacity(64)).await;
        if result? == 0 {
            break;
        }
        received.extend_from_slice(&buf);
    }
    assert_eq!(received, sent, "{in_time} in time, {late} late");
    Ok(())
}

#[cfg(unix)]
async fn a_late_recv_message_loses_no_fd() -> Outcome {
    let (a, b) = corio::net::UnixStream::pair()?;
    let (reader, writer) = std::io::pipe()?;
    let mut pending = 0;
    for (limit, hold) in delays().take(100) {
        let fd = writer.try_clone()?.into();
        let send = a.send_msg(["x"]).fds([fd]);
        pending += 1;
        let recv = b.recv_msg([[0; 1]]).with_timeout(limit);
        let (sent, (result, _)) = futures_util::join!(send, meanwhile(recv, hold, || {}));
        sent.0?;
        match result {
            Ok(message) => {
                assert_eq!((message.len, message.fds.len()), (1, 1));
                pending -= 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
    for _ in 0..pending {
        let (result, _) = b.recv_msg([[0; 1]]).await;
        assert_eq!(result?.fds.len(), 1);
    }
    // All copies are closed or received, so the pipe ends when this writer is dropped.
    drop(writer);
    assert_eq!(AsyncRead::at_position(&reader, [0; 1]).await.0?, 0);
    Ok(())
}

async fn a_late_accept_loses_no_connection() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut connected = Vec::new();
    let mut accepted = Vec::new();
    for (limit, hold) in delays() {
        let accept = AsyncAccept::new(&listener).with_timeout(limit);
        let connect = || connected.push(std::net::TcpStream::connect(address));
        match meanwhile(accept, hold, connect).await {
            Ok((fd, peer)) => accepted.push((fd, peer)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
    while accepted.len() < connected.len() {
        accepted.push(AsyncAccept::new(&listener).await?);
    }
    // Each client has a connection, which works.
    for client in connected {
        let client = client?;
        let address = client.local_addr()?;
        let (fd, _) = accepted.iter().find(|(_, peer)| *peer == address).expect("its other end");
        (&client).write_all(b"x")?;
        assert_eq!(AsyncRecv::new(fd, [0; 1]).await.0?, 1);
    }
    Ok(())
}

#[cfg(unix)]
async fn a_late_send_sends_once_or_never() -> Outcome {
    let (a, mut b) = UnixStream::pair()?;
    a.set_nonblocking(true)?;
    let filled = fill(&a)?;
    a.set_nonblocking(false)?;
    let mut expected = vec![0x55; filled];
    let mut got = vec![0; filled];
    b.set_nonblocking(true)?;
    let mut taken = 0;
    for (limit, hold) in delays().take(100) {
        let send = AsyncSend::new(&a, *b"!").with_timeout(limit);
        let make_room = || {
            let mut chunk = [0; 4096];
            if let Ok(len) = b.read(&mut chunk) {
                got.splice(taken..(taken + len).min(got.len()), chunk[..len].iter().copied());
                taken += len;
            }
        };
        match meanwhile(send, hold, make_room).await.0 {
            Ok(1) => expected.push(b'!'),
            Ok(len) => panic!("{len} bytes of one"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
    got.truncate(taken);
    drop(a);
    b.set_nonblocking(false)?;
    b.read_to_end(&mut got)?;
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    Ok(())
}

async fn a_connect_without_an_answer_times_out() -> Outcome {
    // A listener with a full queue does not answer.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(0)?;
    let address = listener.local_addr()?.as_socket().expect("an IP address");
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let socket = corio::net::Socket::tcp_v4()?;
        match socket.connect(address).with_timeout(Duration::from_millis(20)).await {
            Ok(()) => waiting.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return Ok(());
            }
        }
    }
    panic!("the queue never filled: {} connections", waiting.len());
}

/// The kernel interrupts its worker threads by a signal.
#[cfg(unix)]
async fn an_operation_on_a_kernel_worker_is_not_interrupted_but_timed_out() -> Outcome {
    let dir = tempfile::tempdir()?;
    let watch = crate::harness::watch(dir.path())?;
    crate::harness::set_blocking(&watch);
    for _ in 0..20 {
        let (result, buf) = AsyncRead::at_position(&watch, vec![7; 256]).with_timeout(SHORT).await;
        assert_kind(result, ErrorKind::TimedOut);
        assert_eq!(buf, [7; 256]);
        let whole = AsyncReadExactAt::new(&watch, vec![7; 256], 0);
        assert_kind(whole.with_timeout(SHORT).await.0, ErrorKind::TimedOut);
    }
    std::fs::write(dir.path().join("file"), "")?;
    let (result, buf) = AsyncRead::at_position(&watch, vec![7; 256]).await;
    assert!(result? > 0 && buf.windows(4).any(|name| name == b"file"));
    Ok(())
}

#[cfg(unix)]
async fn a_transfer_that_never_waits_times_out() -> Outcome {
    // 1 PiB long, without a byte on the disk.
    let file = tempfile::tempfile_in("/dev/shm")?;
    file.set_len(1 << 50)?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    let send = AsyncSendfile::new(&null, &file, 0, 1 << 50);
    let error = send.with_timeout(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(Incomplete::of(&error).expect("the error is `Incomplete`").moved > 0);
    Ok(())
}

/// A call that a thread makes cannot be interrupted: the thread is abandoned, and nothing else.
#[cfg(unix)]
async fn an_open_that_waits_for_another_program_times_out() -> Outcome {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("fifo");
    crate::harness::make_fifo(&fifo)?;
    // More operations than a context has threads.
    for _ in 0..20 {
        let open = AsyncOpen::new(&fifo, libc::O_RDONLY, 0);
        let error = open.with_timeout(Duration::from_millis(1)).await.expect_err("no writer");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    assert!(AsyncOpen::new("Cargo.toml", libc::O_RDONLY, 0).await.is_ok());
    Ok(())
}
