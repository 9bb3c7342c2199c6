//! Rings that refuse single opcodes, as a sandbox may.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use corio::net::{SocketAddress, TcpStream};
use corio::op::{
    AsyncAccept, AsyncClose, AsyncConnect, AsyncFallocate, AsyncFsync, AsyncFtruncate, AsyncMkdir,
    AsyncNop, AsyncOpen, AsyncRead, AsyncReadv, AsyncRecv, AsyncRename, AsyncSend, AsyncStatx,
    AsyncUnlink, AsyncWritev,
};
use corio::{Builder, DriverChoice, DropPolicy, IoContext, SetupError};
use io_uring::opcode;

use crate::harness::{Driver, assert_at_rest, assert_errno, assert_kind, file_with, poll_now};

/// A ring that refuses an opcode; `None`: this host has no io_uring.
fn without(opcode: u8) -> Option<Builder> {
    let builder = || IoContext::builder().driver(DriverChoice::Uring).refuse_opcode(opcode);
    Driver::IoUring.is_here().then(builder)
}

#[test]
fn an_opcode_is_left_out_after_its_first_refusal() {
    let Some(builder) = without(opcode::Fsync::CODE) else { return };
    let mut context = builder.build().expect("a context");
    let file = file_with(b"contents").expect("a file");
    let mut sync = || {
        let before = context.stats().syscalls;
        context.block_on(async { AsyncFsync::new(&file).await }).expect("synced by a thread");
        context.stats().syscalls - before
    };
    sync();
    let calls = sync();
    assert!(calls <= 3, "{calls} system calls: the ring was asked again");
    // Other operations stay on the ring.
    context.block_on(AsyncNop::new()).expect("a no-op");
    assert_eq!(context.driver_name(), "io_uring");
}

#[test]
fn the_answer_of_a_refused_operation_is_its_own() {
    let Some(builder) = without(opcode::OpenAt::CODE) else { return };
    let mut context = builder.build().expect("a context");
    context.block_on(async {
        assert_kind(
            AsyncOpen::new("/no/such/file", libc::O_RDONLY, 0).await,
            std::io::ErrorKind::NotFound,
        );
        assert!(AsyncOpen::new("Cargo.toml", libc::O_RDONLY, 0).await.is_ok());
    });
}

#[test]
fn an_access_error_of_the_operation_leaves_its_opcode_on_the_ring() {
    if !Driver::IoUring.is_here() {
        return;
    }
    let mut context = Driver::IoUring.builder().build().expect("a context");
    // Connecting to a broadcast address without `SO_BROADCAST` fails so for root too. This one
    // needs no interface but the loopback.
    let address = corio::net::SocketAddress::v4([127, 255, 255, 255], 9);
    let connect = || async {
        let socket = corio::net::Socket::udp_v4()?;
        socket.connect(address.clone()).await
    };
    for _ in 0..2 {
        assert_errno(context.block_on(connect()), libc::EACCES);
    }
    let (stats, code) = (context.stats(), corio::OpCode::Connect);
    assert_eq!((stats.of(code).completed, stats.of(code).failed), (2, 2));
}

#[test]
fn a_refused_receive_waits_is_cancelled_and_loses_nothing() {
    let Some(builder) = without(opcode::Recv::CODE) else { return };
    let mut context = builder.build().expect("a context");
    let (a, mut b) = UnixStream::pair().expect("a pair");
    context.block_on(async {
        let late = AsyncRecv::new(&a, vec![0; 8]).with_timeout(Duration::from_millis(5)).await;
        assert_kind(late.0, std::io::ErrorKind::TimedOut);
        b.write_all(b"hello").expect("room");
        let (result, buf) = AsyncRecv::new(&a, Vec::with_capacity(8)).await;
        assert_eq!((result.expect("bytes"), &buf[..]), (5, &b"hello"[..]));
        let sent = AsyncSend::new(&a, "back").await.0.expect("sent");
        let mut back = vec![0; sent];
        b.read_exact(&mut back).expect("bytes");
        assert_eq!(back, b"back");
    });
}

#[test]
fn what_is_ready_beats_any_limit_also_at_its_first_refusal() {
    let Some(builder) = without(opcode::Accept::CODE) else { return };
    let mut context = builder.refuse_opcode(opcode::Nop::CODE).build().expect("a context");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let _client = std::net::TcpStream::connect(listener.local_addr().expect("an address"));
    context.block_on(async {
        let accepted = AsyncAccept::new(&listener).with_timeout(Duration::ZERO).await;
        assert!(accepted.is_ok(), "{accepted:?}");
        AsyncNop::new().with_timeout(Duration::ZERO).await.expect("a no-op");
        // A limit that is reached ends one that is not ready.
        let late = AsyncAccept::new(&listener).with_timeout(Duration::ZERO).await;
        assert_kind(late, std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_ring_without_polls_or_cancels_is_not_used() {
    for (opcode, name) in [
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
    ] {
        let Some(builder) = without(opcode) else { return };
        match builder.build() {
            Err(SetupError::ForbiddenOperation(forbidden)) => assert_eq!(forbidden, name),
            other => panic!("{other:?}"),
        }
        // The automatic choice takes the other driver, and says why.
        let auto = IoContext::builder().driver(DriverChoice::Auto).refuse_opcode(opcode).build();
        let auto = auto.expect("a context");
        assert_eq!(auto.driver_name(), "readiness");
        assert!(auto.fallback_reason().is_some_and(|why| why.to_string().contains(name)));
    }
}

/// A Unix listener whose queue is full, and what keeps it so.
fn full_listener(dir: &std::path::Path) -> (SocketAddress, UnixListener, UnixStream) {
    let path = dir.join("listener");
    let listener = UnixListener::bind(&path).expect("a listener");
    // SAFETY: passes no memory.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let first = UnixStream::connect(&path).expect("the one place in the queue");
    (SocketAddress::unix(&path).expect("a short path"), listener, first)
}

/// A connect that has to pause: it is tried again after a time, as no event says when to.
#[test]
fn a_pausing_connect_is_cancelled_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let (address, _listener, _first) = full_listener(dir.path());
    let both = [opcode::Connect::CODE, opcode::Timeout::CODE];
    for refused in [&both[..1], &both[1..], &both[..]] {
        for turns in 0..8 {
            let Some(builder) = without(refused[0]) else { return };
            let builder =
                refused[1..].iter().fold(builder, |builder, &op| builder.refuse_opcode(op));
            let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
            let address = address.clone();
            let task = context.spawn(async move {
                let socket =
                    socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
                let socket = socket.unwrap();
                socket.set_nonblocking(true).unwrap();
                let socket = OwnedFd::from(socket);
                AsyncConnect::new(&socket, address).await.unwrap_err().raw_os_error()
            });
            for _ in 0..turns {
                context.poll_once(Some(Duration::ZERO)).unwrap();
            }
            assert_eq!(context.cancel_all_pending(), usize::from(turns > 0));
            for _ in 0..turns % 2 {
                context.poll_once(Some(Duration::ZERO)).unwrap();
            }
            task.cancel();
            let errno = context.block_on(task).ok().flatten();
            assert!(matches!(errno, None | Some(libc::ECANCELED)), "{errno:?}");
            // A completion that comes late would name an operation that is gone.
            for _ in 0..8 {
                context.poll_once(Some(Duration::ZERO)).unwrap();
            }
            assert_at_rest(&context);
        }
    }
}

#[test]
fn a_whole_send_on_an_eager_socket_sends_no_byte_twice() {
    let Some(builder) = without(opcode::Send::CODE) else { return };
    let mut context = builder.build().expect("a context");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nonblocking(true).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let stream = TcpStream::from(accepted.try_clone().unwrap());
    const LEN: usize = 16 << 20;
    let bytes: Vec<u8> = (0..LEN / 4).flat_map(|n| (n as u32).to_le_bytes()).collect();
    let expected = bytes.clone();
    context.block_on(async {
        peer.write_all(&[1; 100]).unwrap();
        // It leaves more in the socket: the next operations are tried inline.
        assert_eq!(stream.recv(vec![0; 10]).await.0.unwrap(), 10);
        let mut received = vec![0; LEN];
        let mut filled = 0;
        let mut send = Box::pin(stream.send_all(bytes));
        let mut done = poll_now(&mut send).await.is_ready();
        while filled < LEN {
            // Before the loop's turn, so that a part of the rest has room.
            let part = (LEN - filled).min(150_000);
            filled += peer.read(&mut received[filled..filled + part]).unwrap_or(0);
            if !done {
                corio::yield_now().await;
                done = poll_now(&mut send).await.is_ready();
            }
        }
        let wrong = received.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "the first wrong byte");
        assert!(done, "more was sent than there was");
    });
}

#[test]
fn refusals_are_found_out_through_the_smallest_queues() {
    let sends = [opcode::Send::CODE, opcode::SendMsg::CODE, opcode::Close::CODE];
    for refused in sends {
        let Some(builder) = without(refused) else { return };
        let builder = builder.entries(1).completion_entries(1);
        let mut context = builder.build().expect("a context");
        let (a, mut b) = UnixStream::pair().expect("a pair");
        context.block_on(async { AsyncSend::new(&a, "x").await.0 }).expect("sent");
        b.read_exact(&mut [0]).expect("a byte");
        let before = context.stats().syscalls;
        context.block_on(AsyncClose::new(a)).expect("closed");
        if refused == opcode::Close::CODE {
            assert!(context.stats().syscalls > before, "closed by a thread");
        }
    }
}

/// Each way of carrying an operation out that the ring refuses, in one context after the other.
#[test]
fn every_opcode_may_be_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let cancel_and_poll = [opcode::AsyncCancel::CODE, opcode::PollAdd::CODE];
    for refused in (0..64).filter(|opcode| !cancel_and_poll.contains(opcode)) {
        let Some(builder) = without(refused) else { return };
        let mut context = builder.build().expect("a context");
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        context.block_on(async {
            let file = corio::fs::File::create(&old).await.unwrap();
            file.write_all_at("contents", 0).await.0.unwrap();
            AsyncFsync::new(&file).await.unwrap();
            AsyncFallocate::new(&file, 0, 0, 4096).await.unwrap();
            AsyncFtruncate::new(&file, 4).await.unwrap();
            AsyncWritev::new(&file, ["t", "est"], 0).await.0.unwrap();
            AsyncRename::new(&old, &new).await.unwrap();
            let file = corio::fs::File::open(&new).await.unwrap();
            let read = AsyncReadv::new(&file, [vec![0; 2], vec![0; 2]], 0).await.1;
            assert_eq!(read, [b"te", b"st"]);
            AsyncClose::new(std::fs::File::open(&new).unwrap()).await.unwrap();
            assert_eq!(AsyncStatx::path(&new).await.unwrap().len(), 4);
            AsyncUnlink::new(&new, 0).await.unwrap();
            AsyncMkdir::new(&new, 0o777).await.unwrap();
            AsyncUnlink::new(&new, libc::AT_REMOVEDIR).await.unwrap();
            assert_kind(AsyncUnlink::new(&new, 0).await, std::io::ErrorKind::NotFound);
            AsyncNop::new().await.unwrap();

            let listener = corio::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = corio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.send_all("hello").await.0.unwrap();
                stream.shutdown(std::net::Shutdown::Write).await.unwrap();
                stream.recv_exact([0; 5]).await
            });
            let (stream, _) = listener.accept().await.unwrap();
            let mut received = stream.recv_stream();
            let mut all = Vec::new();
            while let Some(buf) = received.recv().await.unwrap() {
                all.extend_from_slice(&buf);
            }
            assert_eq!(all, b"hello");
            stream.send_all(all).await.0.unwrap();
            client.await.unwrap().0.unwrap();
        });
        assert_at_rest(&context);
    }
}

/// Operations that a ring refuses end at any moment: by a cancel, a dropped future, or with their
/// context.
#[test]
fn a_refused_operation_is_given_up_at_any_moment() {
    let every = [
        opcode::Fsync::CODE,
        opcode::OpenAt::CODE,
        opcode::Read::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::Accept::CODE,
        opcode::Close::CODE,
    ];
    for (refused, turns, way) in every.iter().flat_map(|&refused| {
        (0..5).flat_map(move |turns| (0..3).map(move |way| (refused, turns, way)))
    }) {
        let Some(builder) = without(refused) else { return };
        let mut context = builder.drop_policy(DropPolicy::CancelAndWait).build().unwrap();
        let (end, events) = std::sync::mpsc::channel::<()>();
        let task = context.spawn(async move {
            let _end = end;
            let file = file_with(b"contents").expect("a file");
            let (a, _b) = corio::net::UnixStream::pair().expect("a pair");
            let listener = corio::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            let (reader, _writer) = std::io::pipe().expect("a pipe");
            let all = async {
                futures_util::join!(
                    async { drop(AsyncFsync::new(&file).await) },
                    async { drop(AsyncOpen::new("Cargo.toml", libc::O_RDONLY, 0).await) },
                    async { drop(AsyncRead::at_position(&reader, vec![0; 8]).await) },
                    async { drop(a.recv(vec![0; 8]).await) },
                    async { drop(a.send_all(vec![0; 8 << 20]).await) },
                    async { drop(listener.accept().await) },
                    async { drop(AsyncClose::new(file_with(b"").expect("a file")).await) },
                );
            };
            if way == 0 {
                return all.await;
            }
            let mut all = Box::pin(all);
            for _ in 0..turns {
                assert!(poll_now(&mut all).await.is_pending());
                corio::yield_now().await;
            }
        });
        for _ in 0..turns {
            context.poll_once(Some(Duration::ZERO)).unwrap();
        }
        match way {
            0 => task.cancel(),
            1 => {}
            _ => {
                drop((context, task));
                assert!(events.recv().is_err(), "the task was dropped");
                continue;
            }
        }
        let _ = context.block_on(task);
        for _ in 0..5 {
            context.poll_once(Some(Duration::ZERO)).unwrap();
        }
        assert_at_rest(&context);
    }
}
