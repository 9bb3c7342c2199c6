//! Rings that refuse single opcodes, as a sandbox may.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use corio::op::{AsyncFsync, AsyncNop, AsyncOpen, AsyncRecv, AsyncSend};
use corio::{Builder, DriverChoice, IoContext, SetupError};
use io_uring::opcode;

use crate::harness::{Driver, assert_errno, assert_kind, file_with};

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
    // Connecting to the broadcast address without `SO_BROADCAST` fails so for root too.
    let address = corio::net::SocketAddress::v4([255, 255, 255, 255], 9);
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
