//! Operations directly on std's types, on borrowed fds and on owned ones.

use std::future::ready;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use corio::net::SocketAddress;
use corio::op::*;
use corio::race;

use crate::harness::{
    Case, Outcome, assert_kind, ended, file_with, open_fds, settle, start, tcp_pair,
};

every_driver! {
    every_file_operation_works_on_a_std_file,
    every_socket_operation_works_on_std_sockets,
    operations_work_on_borrowed_and_owned_fds,
    operations_work_on_unix_listeners_and_datagrams,
    operations_work_on_a_childs_pipes,
    every_operation_on_the_wrong_kind_of_file_is_an_error,
    a_poll_reports_readiness;
    cases:
    a_borrowed_fd_is_duplicated_only_for_the_operation,
    an_operation_without_an_fd_for_its_duplicate_is_refused,
    an_fd_opened_for_a_dropped_future_is_closed,
    a_cancelled_close_closes,
}

async fn every_file_operation_works_on_a_std_file() -> Outcome {
    let file = tempfile::tempfile()?;
    assert_eq!(AsyncWrite::new(&file, "0123456789", 0).await.0?, 10);
    assert_eq!(AsyncWritev::new(&file, ["ab", "cd"], 10).await.0?, 4);
    AsyncWriteAllAt::new(&file, "ef", 14).await.0?;
    assert_eq!(AsyncRead::new(&file, [0; 4], 0).await.1, *b"0123");
    assert_eq!(AsyncReadv::new(&file, [[0; 2], [0; 2]], 8).await.1, [*b"89", *b"ab"]);
    assert_eq!(AsyncReadExactAt::new(&file, [0; 16], 0).await.1, *b"0123456789abcdef");
    AsyncFsync::new(&file).await?;
    AsyncFdatasync::new(&file).await?;
    AsyncFallocate::new(&file, 0, 0, 100).await?;
    assert_eq!(AsyncStatx::file(&file).await?.len(), 100);
    AsyncFtruncate::new(&file, 3).await?;
    assert_eq!(AsyncStatx::file(&file).await?.len(), 3);
    let (mut near, far) = UnixStream::pair()?;
    AsyncSendfile::new(&far, &file, 0, 3).await?;
    AsyncClose::new(file).await?;
    let mut word = [0; 3];
    near.read_exact(&mut word)?;
    assert_eq!(&word, b"012");
    Ok(())
}

async fn every_socket_operation_works_on_std_sockets() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let client = std::net::TcpStream::from(client);
    let (connected, accepted) = futures_util::join!(
        async { AsyncConnect::new(&client, listener.local_addr()?).await },
        async { AsyncAccept::new(&listener).await },
    );
    connected?;
    let (server, peer) = accepted?;
    assert_eq!(peer, SocketAddress::from(client.local_addr()?));
    let server = std::net::TcpStream::from(server);

    assert_eq!(AsyncSend::new(&client, "one").await.0?, 3);
    AsyncSendAll::new(&client, "two").await.0?;
    assert_eq!(AsyncSendmsg::new(&client, ["thr", "ee"]).await.0?, 5);
    assert_eq!(AsyncRecvExact::new(&server, [0; 8]).await.1, *b"onetwoth");
    let (result, bufs) = AsyncRecvmsg::new(&server, [[0; 1], [0; 1]]).await;
    assert_eq!((result?.len, bufs), (2, [*b"r", *b"e"]));
    assert_eq!(AsyncRecv::new(&server, vec![0; 64]).await.1, *b"e");
    AsyncShutdown::new(&client, Shutdown::Write).await?;
    assert_eq!(AsyncRecv::new(&server, vec![0; 64]).await.0?, 0);
    let ready = AsyncPoll::new(&server, Interest::READABLE).await?;
    assert!(ready.contains(Readiness::READABLE));
    // Reading and writing do on sockets as well.
    AsyncWrite::at_position(&server, "reply").await.0?;
    assert_eq!(AsyncRead::at_position(&client, vec![0; 64]).await.1, *b"reply");
    Ok(())
}

async fn operations_work_on_borrowed_and_owned_fds() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    AsyncSend::new(a.as_fd(), "by loan").await.0?;
    let owned = OwnedFd::from(b);
    assert_eq!(AsyncRecv::new(&owned, vec![0; 64]).await.1, *b"by loan");
    AsyncSend::new(Source::from(&owned), "back").await.0?;
    assert_eq!(AsyncRecv::new(Source::from(a.as_fd()), vec![0; 64]).await.1, *b"back");
    Ok(())
}

async fn operations_work_on_unix_listeners_and_datagrams() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    let connecting = corio::net::UnixStream::connect(&path);
    let (connected, accepted) =
        futures_util::join!(connecting, async { AsyncAccept::new(&listener).await });
    let (connected, (accepted, peer)) = (connected?, accepted?);
    assert_eq!((peer.to_string().as_str(), peer.as_path()), ("(unnamed)", None));
    assert_eq!(connected.peer_addr()?.as_path(), Some(path.as_path()));
    connected.send("hello").await.0?;
    assert_eq!(AsyncRecv::new(&accepted, vec![0; 64]).await.1, *b"hello");
    let none = corio::net::UnixStream::connect(dir.path().join("none")).await;
    assert_kind(none, ErrorKind::NotFound);
    let long = corio::net::UnixStream::connect(dir.path().join("n".repeat(200))).await;
    assert_kind(long, ErrorKind::InvalidInput);
    drop(listener);
    let refused = corio::net::UnixStream::connect(&path).await;
    assert_kind(refused, ErrorKind::ConnectionRefused);

    let receiver = UnixDatagram::bind(dir.path().join("receiver"))?;
    let sender = UnixDatagram::bind(dir.path().join("sender"))?;
    let to = SocketAddress::unix(dir.path().join("receiver"))?;
    assert_eq!(AsyncSendmsg::new(&sender, ["data", "gram"]).to(to).await.0?, 8);
    let (result, bufs) = AsyncRecvmsg::new(&receiver, [Vec::with_capacity(64)]).await;
    let message = result?;
    assert_eq!((message.len, &bufs[0][..]), (8, &b"datagram"[..]));
    let from = message.address.expect("the sender has a name");
    assert_eq!(from.as_path(), Some(dir.path().join("sender").as_path()));
    Ok(())
}

async fn operations_work_on_a_childs_pipes() -> Outcome {
    let mut child = start(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()));
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let echoed: Outcome = async {
        AsyncWrite::at_position(&stdin, "through a child").await.0?;
        let (result, buf) = AsyncRead::at_position(&stdout, vec![0; 64]).await;
        assert_eq!((result?, &buf[..]), (15, &b"through a child"[..]));
        drop(stdin);
        assert_eq!(AsyncRead::at_position(&stdout, vec![0; 64]).await.0?, 0);
        Ok(())
    }
    .await;
    assert!(child.wait()?.success());
    echoed
}

async fn every_operation_on_the_wrong_kind_of_file_is_an_error() -> Outcome {
    let file = file_with(b"contents")?;
    let (a, _b) = UnixStream::pair()?;
    let notsock = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    notsock(AsyncRecv::new(&file, [0; 1]).await.0.unwrap_err());
    notsock(AsyncSend::new(&file, "x").await.0.unwrap_err());
    notsock(AsyncRecvmsg::new(&file, [[0; 1]]).await.0.unwrap_err());
    notsock(AsyncSendmsg::new(&file, ["x"]).await.0.unwrap_err());
    notsock(AsyncAccept::new(&file).await.unwrap_err());
    notsock(AsyncShutdown::new(&file, Shutdown::Both).await.unwrap_err());
    notsock(AsyncConnect::new(&file, ([127, 0, 0, 1], 1)).await.unwrap_err());
    let error = AsyncAccept::new(&a).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "it does not listen");
    assert!(AsyncFtruncate::new(&a, 0).await.is_err());
    assert!(AsyncFallocate::new(&a, 0, 0, 1).await.is_err());
    assert!(AsyncFsync::new(&a).await.is_err());
    assert!(AsyncSendfile::new(&a, &a, 0, 1).await.is_err());
    Ok(())
}

async fn a_poll_reports_readiness() -> Outcome {
    let (mut a, b) = UnixStream::pair()?;
    let both = Interest::READABLE | Interest::WRITABLE;
    let ready_both = Readiness::READABLE | Readiness::WRITABLE;
    let ready = AsyncPoll::new(&b, both).await?;
    assert!(ready.contains(Readiness::WRITABLE) && !ready.contains(Readiness::READABLE));
    a.write_all(b"x")?;
    assert!(AsyncPoll::new(&b, both).await?.contains(ready_both));
    drop(a);
    let ended = AsyncPoll::new(&b, Interest::READABLE).await?;
    assert!(ended.contains(Readiness::READABLE) && ended.contains(Readiness::HANG_UP));
    // Something that becomes ready while it is awaited.
    let (reader, mut writer) = std::io::pipe()?;
    let waiting = corio::spawn(async move { AsyncPoll::new(&reader, Interest::READABLE).await });
    settle().await;
    assert!(!waiting.is_finished());
    writer.write_all(b"x")?;
    assert!(waiting.await??.contains(Readiness::READABLE));
    // A regular file always is.
    assert!(AsyncPoll::new(&file_with(b"")?, both).await?.contains(ready_both));
    // Urgent data, and a closed reader.
    let (near, far) = tcp_pair()?;
    socket2::SockRef::from(&near).send_out_of_band(b"!")?;
    assert!(AsyncPoll::new(&far, Interest::PRIORITY).await?.contains(Readiness::PRIORITY));
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    assert!(AsyncPoll::new(&writer, Interest::WRITABLE).await?.contains(Readiness::ERROR));
    Ok(())
}

fn a_borrowed_fd_is_duplicated_only_for_the_operation(case: Case) -> Outcome {
    case.alone(|| {
        let (a, b) = UnixStream::pair()?;
        let mut context = case.context();
        context.block_on(AsyncNop::new())?;
        let before = open_fds();
        context.block_on(async {
            for _ in 0..100 {
                AsyncSend::new(&a, "x").await.0?;
                AsyncRecv::new(&b, [0; 1]).await.0?;
                let recv = AsyncRecv::new(&b, [0; 1]);
                let limit = std::time::Duration::from_micros(10);
                assert_kind(recv.with_timeout(limit).await.0, ErrorKind::TimedOut);
                assert_eq!(open_fds(), before);
            }
            // An operation that is never polled duplicates no fd.
            let idle = AsyncRecv::new(&b, [0; 1]);
            assert_eq!(open_fds(), before);
            drop(idle);
            Ok::<_, std::io::Error>(())
        })?;
        assert_eq!(open_fds(), before);
        Ok(())
    })
}

fn an_operation_without_an_fd_for_its_duplicate_is_refused(case: Case) -> Outcome {
    case.alone(|| {
        let (a, b) = UnixStream::pair()?;
        let handle = corio::net::UnixStream::from(b);
        let mut context = case.context();
        context.block_on(async {
            let old = crate::harness::exhaust_fds()?;
            let (result, buf) = AsyncSend::new(&a, String::from("back")).await;
            crate::harness::assert_errno(result, libc::EMFILE);
            assert_eq!(buf, "back");
            // An operation on a handle needs no duplicate.
            handle.send("fine").await.0?;
            crate::harness::limit_fds(old)?;
            assert_eq!(AsyncRecv::new(&a, vec![0; 64]).await.1, *b"fine");
            Ok(())
        })
    })
}

/// Waits until this process has so many fds open.
async fn fds_become(number: usize) {
    for _ in 0..1000 {
        if open_fds() == number {
            return;
        }
        corio::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(open_fds(), number);
}

/// An fd that an operation returns is closed if its future is dropped with the result.
fn an_fd_opened_for_a_dropped_future_is_closed(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        context.block_on(async {
            let listener = corio::net::TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            // A device is never opened inline.
            let opening = || AsyncOpen::new("/dev/null", libc::O_RDONLY, 0);
            // At the first open, a driver may open an fd of its own.
            drop(opening().await?);
            let before = open_fds();
            for _ in 0..20 {
                let mut open = Box::pin(opening());
                assert!(futures_util::poll!(open.as_mut()).is_pending());
                let mut accept = Box::pin(listener.accept());
                assert!(futures_util::poll!(accept.as_mut()).is_pending());
                let client = std::net::TcpStream::connect(address)?;
                ended().await;
                drop((open, accept, client));
                // The loser of a race may have opened an fd all the same.
                drop(race(opening(), ready(())).await);
                drop(race(AsyncNop::new(), opening()).await);
                ended().await;
                // A dropped open may still be with its thread, which closes what it opens.
                fds_become(before).await;
            }
            Ok(())
        })
    })
}

/// Whether the cancel arrives before or after the close has run, the fd is closed once.
fn a_cancelled_close_closes(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        context.block_on(async {
            let before = open_fds();
            for _ in 0..20 {
                drop(race(AsyncClose::new(tempfile::tempfile()?), ready(())).await);
                drop(race(ready(()), AsyncClose::new(tempfile::tempfile()?)).await);
                drop(race(AsyncNop::new(), AsyncClose::new(tempfile::tempfile()?)).await);
                // A thread may be about a close that was cancelled.
                fds_become(before).await;
            }
            Ok(())
        })
    })
}
