//! Messages: file descriptors that travel with them, and several buffers at once.

use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use corio::net::UnixStream;
use corio::op::{AsyncRecvmsg, AsyncSendmsg};

use crate::harness::{Case, Outcome, assert_errno, file_with, is_cloexec, noise, open_fds, settle};

every_driver! {
    an_fd_travels_with_a_message,
    sixty_fds_travel_with_a_message,
    too_many_fds_are_refused,
    fds_over_tcp_are_not_sent,
    a_message_gathers_and_scatters_many_buffers,
    a_stream_message_fills_the_buffers_in_order,
    a_message_without_buffers_transfers_nothing,
    parts_sent_with_msg_more_arrive_in_order;
    cases:
    fds_beyond_the_room_are_not_leaked,
    fds_of_a_dropped_message_are_not_leaked,
    fds_received_with_none_left_are_not_leaked,
    sent_fds_are_closed_here,
}

/// The fd of a file that is recognised by its contents.
fn numbered(number: usize) -> std::io::Result<OwnedFd> {
    file_with(format!("file {number}").as_bytes()).map(OwnedFd::from)
}

fn contents(fd: OwnedFd) -> std::io::Result<String> {
    let mut file = std::fs::File::from(fd);
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text).map(|_| text)
}

async fn an_fd_travels_with_a_message() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let (result, bufs) = a.send_msg([String::from("take it")]).fds([numbered(1)?]).await;
    assert_eq!((result?, bufs), (7, [String::from("take it")]));
    let (result, bufs) = b.recv_msg([vec![0; 64]]).await;
    let mut message = result?;
    assert_eq!((message.len, &bufs[0][..]), (7, &b"take it"[..]));
    assert!(!message.truncated && !message.control_truncated && message.address.is_none());
    let fd = message.fds.pop().expect("one fd");
    assert!(message.fds.is_empty() && is_cloexec(&fd));
    assert_eq!(contents(fd)?, "file 1");
    // Fds stay with their message: the next one has none.
    a.send("plain").await.0?;
    let (result, _) = b.recv_msg([vec![0; 64]]).await;
    assert!(result?.fds.is_empty());
    Ok(())
}

async fn sixty_fds_travel_with_a_message() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    for count in [2, 3, 59, 60] {
        let fds = (0..count).map(numbered).collect::<Result<Vec<_>, _>>()?;
        a.send_msg(["x"]).fds(fds).await.0?;
        let (result, _) = b.recv_msg([[0; 1]]).await;
        let message = result?;
        assert!(!message.control_truncated);
        assert_eq!(message.fds.len(), count);
        for (number, fd) in message.fds.into_iter().enumerate() {
            assert!(is_cloexec(&fd));
            assert_eq!(contents(fd)?, format!("file {number}"));
        }
    }
    Ok(())
}

async fn too_many_fds_are_refused() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
    let copies = |count| (0..count).map(|_| null.try_clone()).collect::<Result<Vec<_>, _>>();
    let (result, bufs) = a.send_msg([String::from("back")]).fds(copies(254)?).await;
    assert_errno(result, libc::EINVAL);
    assert_eq!(bufs, ["back"]);
    assert_eq!(a.send_msg(["x"]).fds(copies(253)?).await.0?, 1);
    let (result, _) = b.recv_msg([[0; 1]]).await;
    let message = result?;
    assert_eq!((message.fds.len(), message.control_truncated), (60, true));
    Ok(())
}

async fn fds_over_tcp_are_not_sent() -> Outcome {
    let (a, b) = crate::harness::corio_tcp_pair()?;
    // TCP carries no fds. Linux ignores such control data.
    match a.send_msg(["x"]).fds([numbered(1)?]).await.0 {
        Ok(len) => {
            assert_eq!(len, 1);
            let (result, _) = b.recv_msg([[0; 1]]).await;
            assert!(result?.fds.is_empty());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
    }
    Ok(())
}

async fn a_message_gathers_and_scatters_many_buffers() -> Outcome {
    let whole = noise(5000);
    for count in [1, 8, 9, 500] {
        let (a, b) = UnixStream::pair()?;
        let size = whole.len() / count;
        let parts: Vec<Vec<u8>> = whole.chunks(size).map(<[u8]>::to_vec).collect();
        let (result, parts) = a.send_msg(parts).await;
        assert_eq!((result?, parts.concat()), (whole.len(), whole.clone()));
        let room: Vec<Box<[u8]>> = (0..count + 1).map(|_| vec![0; size].into()).collect();
        let (result, read) = b.recv_msg(room).await;
        let len = result?.len;
        assert_eq!(read.concat()[..len], whole[..len]);
        assert_eq!(len, whole.len());
    }
    // More than the kernel takes at once: a short one.
    let (a, b) = UnixStream::pair()?;
    assert_eq!(a.send_msg(vec!["ab"; 1500]).await.0?, 2048);
    let (result, _) = b.recv_msg(vec![[0; 1]; 1500]).await;
    assert_eq!(result?.len, 1024);
    Ok(())
}

async fn a_stream_message_fills_the_buffers_in_order() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    a.send("abcde").await.0?;
    let (result, bufs) = b.recv_msg([vec![9; 2], vec![9; 2], vec![9; 2], vec![9; 2]]).await;
    assert_eq!(result?.len, 5);
    assert_eq!(bufs, [b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec(), vec![]]);
    drop(a);
    let (result, _) = b.recv_msg([vec![9; 2]]).await;
    assert_eq!(result?.len, 0);
    Ok(())
}

async fn a_message_without_buffers_transfers_nothing() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    a.send("x").await.0?;
    let nothing: [&'static str; 0] = [];
    assert_eq!(a.send_msg(nothing).await.0?, 0);
    assert_eq!(b.recv([0; 2]).await.1, *b"x\0");
    Ok(())
}

async fn parts_sent_with_msg_more_arrive_in_order() -> Outcome {
    // `MSG_MORE` holds a part back until the rest comes.
    let (a, b) = crate::harness::corio_tcp_pair()?;
    let flags = libc::MSG_MORE;
    assert_eq!(a.send_msg(["he", "ad "]).flags(flags).await.0?, 5);
    assert_eq!(corio::op::AsyncSend::with_flags(&a, "mid ", flags).await.0?, 4);
    a.send("tail").await.0?;
    assert_eq!(b.recv_exact([0; 13]).await.1, *b"head mid tail");
    Ok(())
}

fn fds_beyond_the_room_are_not_leaked(case: Case) -> Outcome {
    case.alone(|| {
        case.context().block_on(async {
            let (a, b) = UnixStream::pair()?;
            let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
            let before = open_fds();
            for count in [61, 100, 253] {
                let fds = (0..count).map(|_| null.try_clone()).collect::<Result<Vec<_>, _>>()?;
                a.send_msg(["x"]).fds(fds).await.0?;
                let (result, _) = b.recv_msg([[0; 1]]).await;
                let message = result?;
                assert!(message.control_truncated);
                assert_eq!(open_fds(), before + message.fds.len());
                assert!(message.fds.len() == 60);
                drop(message);
                assert_eq!(open_fds(), before);
                // Nor are those of a message that is received without asking for fds.
                a.send_msg(["x"]).fds([null.try_clone()?]).await.0?;
                b.recv([0; 1]).await.0?;
                assert_eq!(open_fds(), before);
            }
            Ok(())
        })
    })
}

fn fds_of_a_dropped_message_are_not_leaked(case: Case) -> Outcome {
    case.alone(|| {
        case.context().block_on(async {
            let (a, b) = UnixStream::pair()?;
            let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
            let before = open_fds();
            for _ in 0..10 {
                // The operation has ended, but has not been polled for its result.
                let mut recv = Box::pin(AsyncRecvmsg::new(&b, [[0; 1]]));
                assert!(futures_util::poll!(recv.as_mut()).is_pending());
                a.send_msg(["x"]).fds([null.try_clone()?, null.try_clone()?]).await.0?;
                settle().await;
                drop(recv);
                settle().await;
                assert_eq!(open_fds(), before);
            }
            // A send that is never polled closes its fds as well, as does one that fails.
            drop(a.send_msg(["x"]).fds([null.try_clone()?]));
            let too_many = (0..254).map(|_| null.try_clone()).collect::<Result<Vec<_>, _>>()?;
            assert!(a.send_msg(["x"]).fds(too_many).await.0.is_err());
            assert_eq!(open_fds(), before);
            Ok(())
        })
    })
}

fn fds_received_with_none_left_are_not_leaked(case: Case) -> Outcome {
    case.alone(|| {
        case.context().block_on(async {
            let (a, b) = UnixStream::pair()?;
            let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
            let before = open_fds();
            let fds = (0..10).map(|_| null.try_clone()).collect::<Result<Vec<_>, _>>()?;
            a.send_msg(["x"]).fds(fds).await.0?;
            let old = crate::harness::exhaust_fds()?;
            let (result, bufs) = b.recv_msg([[0; 1]]).await;
            crate::harness::limit_fds(old)?;
            let message = result?;
            assert_eq!((message.len, bufs), (1, [*b"x"]));
            assert!(message.control_truncated && message.fds.is_empty());
            assert_eq!(open_fds(), before);
            Ok(())
        })
    })
}

fn sent_fds_are_closed_here(case: Case) -> Outcome {
    case.alone(|| {
        case.context().block_on(async {
            let (a, b) = std::os::unix::net::UnixStream::pair()?;
            let (reader, writer) = std::io::pipe()?;
            AsyncSendmsg::new(&a, ["x"]).fds([OwnedFd::from(writer)]).await.0?;
            // The message holds the only writer left; when that is closed, the pipe ends.
            let (result, _) = AsyncRecvmsg::new(b.as_fd(), [[0; 1]]).await;
            let mut writer = std::fs::File::from(result?.fds.pop().expect("one fd"));
            writer.write_all(b"still open")?;
            drop(writer);
            let mut text = String::new();
            (&reader).read_to_string(&mut text)?;
            assert_eq!(text, "still open");
            Ok(())
        })
    })
}
