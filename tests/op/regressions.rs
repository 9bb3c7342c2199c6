//! Bugs that were found and fixed.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use corio::net::{Socket, SocketAddress, UnixStream};
use corio::op::{AsyncClose, AsyncRead, AsyncReadExactAt, FixedFiles, is_cancelled};
use corio::{IoContext, RaceOutput, race, timeout};
use futures_util::poll;

use crate::harness::{ended, settle, watch};

/// Runs a future in a context of its own.
fn run<T>(future: impl Future<Output = io::Result<T>>) -> T {
    let mut context = IoContext::new(8).unwrap();
    context.block_on(future).unwrap()
}

/// The driver retried the operation on the slot, which had another file by then.
#[test]
fn an_operation_is_retried_on_its_own_file_when_the_slot_has_another() {
    run(async {
        let dir = tempfile::tempdir()?;
        let (new, mut new_writer) = io::pipe()?;
        let table = FixedFiles::register(1)?;
        let handle = table.insert(watch(dir.path())?)?;
        let mut reading = Box::pin(AsyncRead::at_position(&handle, Vec::with_capacity(256)));
        assert!(poll!(reading.as_mut()).is_pending());
        settle().await;
        table.update(&handle, new)?;
        new_writer.write_all(b"wrong")?;
        std::fs::write(dir.path().join("new"), "")?;
        let (result, buf) = reading.await;
        result?;
        assert_ne!(buf, b"wrong");
        assert!(buf.len() >= size_of::<libc::inotify_event>());
        Ok(())
    });
}

/// The same when the table was removed, or its context is not the running one.
#[test]
fn a_transfer_continues_without_the_table() {
    let (old, mut old_writer) = io::pipe().unwrap();
    let handle = std::cell::OnceCell::new();
    let mut reading = {
        let mut context = IoContext::new(8).unwrap();
        context
            .block_on(async {
                let table = FixedFiles::register(1)?;
                let handle = handle.get_or_init(|| table.insert(old).unwrap());
                let mut reading = Box::pin(AsyncReadExactAt::new(handle, [0; 6], 0));
                assert!(poll!(reading.as_mut()).is_pending());
                // Kernels before 6.4 read pipes on worker threads, which take their time.
                old_writer.write_all(b"ab")?;
                ended().await;
                assert!(poll!(reading.as_mut()).is_pending());
                table.unregister()?;
                old_writer.write_all(b"cd")?;
                ended().await;
                Ok::<_, io::Error>(reading)
            })
            .unwrap()
    };
    run(async {
        // Another table of another context, with another file in that slot.
        let (other, mut other_writer) = io::pipe()?;
        let table = FixedFiles::register(1)?;
        let _other = table.insert(other)?;
        other_writer.write_all(b"wrong")?;
        old_writer.write_all(b"ef")?;
        let (result, buf) = reading.as_mut().await;
        result?;
        assert_eq!(&buf, b"abcdef");
        Ok(())
    });
}

/// A close that a time limit prevented from starting was treated as one that had run.
#[test]
fn a_close_that_was_never_polled_leaks_no_fd() {
    run(async {
        let (a, _b) = UnixStream::pair()?;
        let (fd, mut peer) = StdStream::pair()?;
        let closed = timeout(Duration::from_millis(1), async {
            let (result, _) = a.recv(vec![0; 8]).await;
            assert!(result.is_err());
            AsyncClose::new(fd).await
        })
        .await;
        assert_eq!(closed.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        peer.set_nonblocking(true)?;
        assert_eq!(peer.read(&mut [0; 8])?, 0, "the fd is still open");
        Ok(())
    });
}

/// An operation that had to wait, cancelled immediately, returned `EAGAIN`.
#[test]
fn a_cancelled_operation_on_a_nonblocking_file_says_so() {
    run(async {
        let dir = tempfile::tempdir()?;
        let watch = watch(dir.path())?;
        let reading = AsyncRead::at_position(&watch, vec![0; 256]);
        let RaceOutput::Second(Some((result, _)), ()) = race(reading, async {}).await else {
            panic!("there is nothing to read");
        };
        let error = result.unwrap_err();
        assert!(is_cancelled(&error), "{error}");
        Ok(())
    });
}

/// The driver retried it in a loop, so it could not be cancelled.
#[test]
fn connecting_a_nonblocking_socket_to_a_busy_listener_can_be_cancelled() {
    run(async {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("socket");
        let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        raw.bind(&socket2::SockAddr::unix(&path)?)?;
        raw.listen(0)?;
        let _first = StdStream::connect(&path)?;
        for micros in (0..2000).step_by(50) {
            let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
            let socket = Socket::from(OwnedFd::from(raw));
            let connecting = socket.connect(SocketAddress::unix(&path)?);
            let error = connecting.with_timeout(Duration::from_micros(micros)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "after {micros} µs: {error}");
        }
        Ok(())
    });
}

/// A read ends before urgent data. The readiness driver concluded from a short read that nothing
/// is left, and waited for an event that it had consumed.
#[test]
fn bytes_after_urgent_data_are_received() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let stream = corio::net::TcpStream::from(listener.accept().unwrap().0);
    let choice = corio::DriverChoice::Readiness;
    let mut context = IoContext::builder().driver(choice).build().unwrap();
    let receiving = context.spawn(async move {
        let mut received = Vec::new();
        while received.len() < 6 {
            let limit = Duration::from_secs(60);
            let (result, part) = stream.recv(Vec::with_capacity(64)).with_timeout(limit).await;
            assert_ne!(result.unwrap(), 0);
            received.extend_from_slice(&part);
        }
        received
    });
    // The receive waits, and then all comes at once.
    context.poll_once(Some(Duration::ZERO)).unwrap();
    client.write_all(b"abc").unwrap();
    socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"def").unwrap();
    let received = context.block_on(async { receiving.await.unwrap() });
    assert_eq!(received, b"abcdef");
}

/// io_uring would continue such a receive after a part, and receive the peeked bytes again.
#[test]
fn a_peek_that_waits_for_all_bytes_is_refused() {
    let flags = libc::MSG_PEEK | libc::MSG_WAITALL;
    let (a, _b) = StdStream::pair().unwrap();
    let refused = std::panic::catch_unwind(|| {
        drop(corio::op::AsyncRecv::with_flags(&a, vec![0; 10], flags));
    });
    assert!(refused.is_err());
}
