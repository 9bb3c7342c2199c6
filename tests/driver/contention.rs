//! Several operations on one file, and jobs behind which others wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corio::net::{SocketAddress, TcpStream};
use corio::op::{
    AsyncConnect, AsyncFsync, AsyncOpen, AsyncPoll, AsyncRead, AsyncRecv, AsyncSendmsg, Interest,
    Readiness,
};
use corio::{sleep, spawn};

use crate::harness::{Case, Outcome, assert_errno, errno, settle};

every_driver! {
    a_connect_fails_even_if_a_receive_takes_its_error,
    a_connect_fails_even_if_so_error_was_taken_elsewhere,
    a_second_connect_while_one_is_in_progress_is_refused,
    a_poll_for_writability_ends_when_there_is_room,
    a_read_of_a_write_only_file_is_refused,
    a_poll_of_a_file_for_urgent_data_is_refused;
    cases:
    an_open_that_timed_out_does_not_block_the_pool,
}

#[cfg(target_os = "linux")]
every_driver! {
    bytes_after_urgent_data_are_received,
    a_datagram_for_a_full_peer_does_not_delay_others;
    cases:
    a_send_that_cannot_be_watched_reports_the_bytes_it_sent,
}

/// Returns a listener whose queue is full, so that it answers no further connection, the connection
/// that fills it, and its address.
fn silent_listener() -> std::io::Result<(TcpListener, std::net::TcpStream, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).listen(0)?;
    let address = listener.local_addr()?;
    let queued = std::net::TcpStream::connect(address)?;
    Ok((listener, queued, address))
}

fn unconnected() -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    Ok(std::net::TcpStream::from(socket).into())
}

async fn a_connect_fails_even_if_a_receive_takes_its_error() -> Outcome {
    let (listener, queued, address) = silent_listener()?;
    let stream = Rc::new(unconnected()?);
    let same = stream.clone();
    let connect = spawn(async move { AsyncConnect::new(&*same, address).await });
    settle().await;
    let recv = spawn(async move { stream.recv(Vec::with_capacity(8)).await.0 });
    settle().await;
    // The next SYN is refused.
    drop((queued, listener));
    // (On Linux 6.1 the ring's connect takes the error first; the receive then ends.)
    assert!(matches!(recv.await?, Err(_) | Ok(0)));
    assert!(connect.await?.is_err());
    Ok(())
}

async fn a_connect_fails_even_if_so_error_was_taken_elsewhere() -> Outcome {
    let (listener, queued, address) = silent_listener()?;
    let stream = Rc::new(unconnected()?);
    let same = stream.clone();
    let connect = spawn(async move { AsyncConnect::new(&*same, address).await });
    settle().await;
    drop((queued, listener));
    // The next SYN is refused, after a second. (Where the ring's completions are not deferred,
    // before Linux 6.1, its connect may take the error first.)
    let start = Instant::now();
    while socket2::SockRef::from(&*stream).take_error()?.is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
    }
    assert!(connect.await?.is_err());
    Ok(())
}

async fn a_second_connect_while_one_is_in_progress_is_refused() -> Outcome {
    let (_listener, _queued, address) = silent_listener()?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    let stream = unconnected()?;
    let limit = Duration::from_millis(20);
    let first = AsyncConnect::new(&stream, address).with_timeout(limit).await;
    assert_eq!(first.unwrap_err().kind(), ErrorKind::TimedOut);
    let second = AsyncConnect::new(&stream, other.local_addr()?).await;
    assert_errno(second, libc::EALREADY);
    Ok(())
}

async fn a_poll_for_writability_ends_when_there_is_room() -> Outcome {
    let (near, mut far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let filled = crate::harness::fill(&near)?;
    let same = near.try_clone()?;
    let poll = spawn(async move { AsyncPoll::new(&same, Interest::WRITABLE).await });
    settle().await;
    assert!(!poll.is_finished());
    far.read_exact(&mut vec![0; filled])?;
    assert!(poll.await??.contains(Readiness::WRITABLE));
    Ok(())
}

async fn a_read_of_a_write_only_file_is_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let file = std::fs::File::create(dir.path().join("file"))?;
    assert_errno(AsyncRead::new(&file, [0; 1], 0).await.0, errno::EBADF);
    Ok(())
}

async fn a_poll_of_a_file_for_urgent_data_is_refused() -> Outcome {
    let file = tempfile::tempfile()?;
    assert_errno(AsyncPoll::new(&file, Interest::PRIORITY).await, errno::EINVAL);
    Ok(())
}

#[cfg(target_os = "linux")]
async fn bytes_after_urgent_data_are_received() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = std::net::TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let stream = TcpStream::from(listener.accept()?.0);
    // From here on the file is watched.
    let early = stream.recv(Vec::with_capacity(8)).with_timeout(Duration::from_millis(5));
    assert!(early.await.0.is_err());
    settle().await;
    client.write_all(b"abc")?;
    socket2::SockRef::from(&client).send_out_of_band(b"!")?;
    client.write_all(b"def")?;
    let mut peeked = [std::mem::MaybeUninit::uninit(); 16];
    while socket2::SockRef::from(&stream).peek(&mut peeked).unwrap_or(0) < 3 {}
    let urgent = AsyncRecv::with_flags(&stream, Vec::with_capacity(1), libc::MSG_OOB);
    assert_eq!(urgent.await.1, b"!");
    sleep(Duration::from_millis(5)).await;
    let mut all = Vec::new();
    while all.len() < 6 {
        let (result, part) = stream.recv(Vec::with_capacity(64)).await;
        assert_ne!(result?, 0);
        all.extend(part);
    }
    assert_eq!(all, b"abcdef");
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_datagram_for_a_full_peer_does_not_delay_others() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (full, free) = (dir.path().join("full"), dir.path().join("free"));
    let (_full, _free) = (UnixDatagram::bind(&full)?, UnixDatagram::bind(&free)?);
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    while sender.send_to(b"x", &full).is_ok() {}
    // One handle for both, so that the driver sees one file.
    let sender = UnixStream::from(sender.as_fd().try_clone_to_owned()?);
    let sender = Rc::new(corio::net::UnixStream::from(sender));
    let (same, address) = (sender.clone(), SocketAddress::unix(&full)?);
    let before = corio::stats().turns;
    let stuck = spawn(async move { AsyncSendmsg::new(&*same, ["last"]).to(address).await.0 });
    sleep(Duration::from_millis(20)).await;
    let turns = corio::stats().turns - before;
    assert!(turns < 500, "{turns} turns: it waits, and does not spin");
    let message = AsyncSendmsg::new(&*sender, ["hello"]).to(SocketAddress::unix(&free)?);
    assert_eq!(message.await.0?, 5);
    stuck.cancel();
    assert!(stuck.await?.is_err());
    Ok(())
}

fn an_open_that_timed_out_does_not_block_the_pool(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("fifo");
    crate::harness::make_fifo(&fifo)?;
    let file = tempfile::tempfile()?;
    let mut context = case.driver.builder().blocking_threads(1).build()?;
    let result: Outcome = context.block_on(async {
        let limit = Duration::from_millis(30);
        let open = AsyncOpen::new(&fifo, libc::O_RDONLY, 0).with_timeout(limit);
        let sync = async {
            settle().await;
            AsyncFsync::new(&file).await
        };
        let (opened, synced) = futures_util::future::join(open, sync).await;
        synced?;
        assert_eq!(opened.expect_err("no writer").kind(), std::io::ErrorKind::TimedOut);
        Ok(())
    });
    result
}

#[cfg(target_os = "linux")]
fn a_send_that_cannot_be_watched_reports_the_bytes_it_sent(case: Case) -> Outcome {
    use corio::op::{AsyncSendAll, Incomplete};
    let (near, mut far) = UnixStream::pair()?;
    if !crate::harness::seccomp::is_here() {
        return Ok(());
    }
    case.alone(|| {
        let mut context = case.context();
        // The error of `epoll_ctl(2)` when the limit of watched files is reached.
        let call = libc::SYS_epoll_ctl as u32;
        crate::harness::seccomp::forbid(call..=call, libc::ENOSPC)?;
        let limit = Duration::from_millis(50);
        let send = AsyncSendAll::new(&near, vec![1; 4 << 20]).with_timeout(limit);
        let error = context.block_on(send).0.unwrap_err();
        let moved = Incomplete::of(&error).expect("the error is `Incomplete`").moved;
        far.set_nonblocking(true)?;
        let (mut arrived, mut buf) = (0, vec![0; 1 << 16]);
        while let Ok(len) = far.read(&mut buf) {
            arrived += len as u64;
        }
        assert_eq!(moved, arrived);
        Ok(())
    })
}
