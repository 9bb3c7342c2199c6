//! Bugs that were found and fixed; each test is named after what went wrong.
//!
//! # Why this file has `unsafe`
//! It watches a directory, for which std has no call.

use std::ffi::CString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::time::Duration;

use corio::net::{Socket, SocketAddress, UnixStream};
use corio::op::{
    AsyncClose, AsyncRead, AsyncReadExactAt, AsyncRecv, AsyncSend, AsyncSendfile, AsyncSendmsg,
    FixedFiles, is_cancelled,
};
use corio::{IoContext, Raced, race, sleep, timeout};
use futures_util::poll;

/// Runs a future in a context of its own.
fn run<T>(future: impl Future<Output = io::Result<T>>) -> T {
    let mut context = IoContext::new(8).unwrap();
    context.run_until_done(future).unwrap()
}

/// Lets completions that are there come in.
async fn turn() -> io::Result<()> {
    for _ in 0..3 {
        corio::op::AsyncNop::new().await?;
    }
    Ok(())
}

/// A watch on a directory, in non-blocking mode: one of the files for which the ring answers
/// `EAGAIN` while there is nothing to read.
fn watch(dir: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: passes no memory.
    let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd for us.
    let watch = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the path ends with a NUL.
    if unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_CREATE) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(watch)
}

/// The driver asked a leaked operation for its fd, by way of the handle, which was gone.
#[test]
fn a_leaked_operation_is_tried_again_without_its_handle() {
    run(async {
        let (a, a_peer) = UnixStream::pair()?;
        let (b, b_peer) = StdStream::pair()?;
        let file = tempfile::tempfile()?;
        file.set_len(1 << 30)?;

        let a = Box::new(a);
        let mut sending = Box::pin(AsyncSendfile::new(&*a, &file, 0, 1 << 30));
        while corio::pending().is_empty() {
            assert!(poll!(sending.as_mut()).is_pending());
        }
        std::mem::forget(sending);
        drop(a);
        // The allocator likes to give the same memory again.
        let _others: Vec<_> =
            (0..16).map(|_| b.try_clone().map(|b| Box::new(UnixStream::from(b)))).collect();

        let mut buf = Vec::with_capacity(1 << 20);
        for _ in 0..1000 {
            let (result, back) = a_peer.recv(buf).await;
            assert_ne!(result?, 0);
            buf = back;
            if corio::pending().is_empty() {
                break;
            }
        }
        assert!(corio::pending().is_empty(), "it never went on");
        b_peer.set_nonblocking(true)?;
        let stray = (&b_peer).read(&mut [0; 8]);
        assert_eq!(stray.unwrap_err().kind(), ErrorKind::WouldBlock, "sent to another socket");
        Ok(())
    });
}

/// The second part of a transfer used the slot, whoever had it by then.
#[test]
fn a_transfer_goes_on_with_its_file_when_the_slot_has_another() {
    run(async {
        let (old, mut old_writer) = io::pipe()?;
        let (new, mut new_writer) = io::pipe()?;
        let table = FixedFiles::register(1)?;
        let handle = table.insert(old)?;
        let mut reading = Box::pin(AsyncReadExactAt::new(&handle, [0; 4], 0));
        assert!(poll!(reading.as_mut()).is_pending());
        old_writer.write_all(b"ri")?;
        turn().await?;
        table.update(&handle, new)?;
        new_writer.write_all(b"wrong")?;
        assert!(poll!(reading.as_mut()).is_pending());
        old_writer.write_all(b"ng")?;
        let (result, buf) = reading.await;
        result?;
        assert_eq!(&buf, b"ring");
        Ok(())
    });
}

/// The driver tried the operation again on the slot, whoever had it by then.
#[test]
fn an_operation_is_tried_again_on_its_file_when_the_slot_has_another() {
    run(async {
        let dir = tempfile::tempdir()?;
        let (new, mut new_writer) = io::pipe()?;
        let table = FixedFiles::register(1)?;
        let handle = table.insert(watch(dir.path())?)?;
        let mut reading = Box::pin(AsyncRead::at_position(&handle, Vec::with_capacity(256)));
        assert!(poll!(reading.as_mut()).is_pending());
        turn().await?;
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

/// The same when the table was removed altogether, or its context is not the running one.
#[test]
fn a_transfer_goes_on_without_the_table() {
    let (old, mut old_writer) = io::pipe().unwrap();
    let handle = std::cell::OnceCell::new();
    let mut reading = {
        let mut context = IoContext::new(8).unwrap();
        context
            .run_until_done(async {
                let table = FixedFiles::register(1)?;
                let handle = handle.get_or_init(|| table.insert(old).unwrap());
                let mut reading = Box::pin(AsyncReadExactAt::new(handle, [0; 6], 0));
                assert!(poll!(reading.as_mut()).is_pending());
                old_writer.write_all(b"ab")?;
                turn().await?;
                assert!(poll!(reading.as_mut()).is_pending());
                table.unregister()?;
                old_writer.write_all(b"cd")?;
                turn().await?;
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

/// A close that a time limit kept from starting was taken for one that had run.
#[test]
fn a_close_that_never_ran_leaks_no_fd() {
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

/// An operation that found nothing to do, and a cancel on its heels, gave `EAGAIN`.
#[test]
fn a_cancelled_operation_on_a_nonblocking_file_says_so() {
    run(async {
        let dir = tempfile::tempdir()?;
        let watch = watch(dir.path())?;
        let reading = AsyncRead::at_position(&watch, vec![0; 256]);
        let Raced::Right(Some((result, _)), ()) = race(reading, async {}).await else {
            panic!("there is nothing to read");
        };
        let error = result.unwrap_err();
        assert!(is_cancelled(&error), "{error}");
        Ok(())
    });
}

/// A socket's `recv` of no bytes waits for bytes all the same.
#[test]
fn a_transfer_of_nothing_does_not_wait() {
    run(async {
        let (a, _b) = UnixStream::pair()?;
        let mut receiving = Box::pin(a.recv_exact(Vec::new()));
        assert!(poll!(receiving.as_mut()).is_pending());
        turn().await?;
        assert!(poll!(receiving.as_mut()).is_ready(), "it waits for bytes");
        a.send_exact("").await.0
    });
}

/// The largest offset meant the file's own position.
#[test]
fn no_offset_means_the_files_position() {
    run(async {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"abcdefgh")?;
        io::Seek::rewind(&mut file)?;
        let invalid = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        };
        for offset in [u64::MAX, u64::MAX - 1, i64::MAX as u64 + 1] {
            invalid(AsyncRead::new(&file, vec![0; 4], offset).await.0.map(drop));
            invalid(corio::op::AsyncWrite::new(&file, "x", offset).await.0.map(drop));
            invalid(corio::op::AsyncReadv::new(&file, [[0; 4]], offset).await.0.map(drop));
            invalid(corio::op::AsyncWritev::new(&file, ["x"], offset).await.0.map(drop));
            invalid(AsyncReadExactAt::new(&file, [0; 4], offset).await.0);
            invalid(corio::op::AsyncWriteExactAt::new(&file, "x", offset).await.0);
        }
        Ok(())
    });
}

/// With `MSG_ZEROCOPY` the kernel goes on reading a buffer that was given back.
#[test]
fn flags_that_outlive_the_operation_are_refused() {
    run(async {
        let (a, _b) = UnixStream::pair()?;
        let refused = |f: &dyn Fn()| {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err());
        };
        refused(&|| drop(AsyncSend::with_flags(&a, "x", libc::MSG_ZEROCOPY)));
        refused(&|| drop(AsyncSendmsg::new(&a, ["x"]).flags(libc::MSG_ZEROCOPY)));
        refused(&|| drop(AsyncRecv::with_flags(&a, vec![0; 4], libc::MSG_TRUNC)));
        AsyncSend::with_flags(&a, "x", libc::MSG_MORE | libc::MSG_NOSIGNAL).await.0.map(drop)
    });
}

/// A Unix listener whose queue was full kept the connecting thread spinning.
#[test]
fn connecting_to_a_busy_unix_listener_sleeps() {
    run(async {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("socket");
        let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        raw.bind(&socket2::SockAddr::unix(&path)?)?;
        raw.listen(0)?;
        let listener = StdListener::from(std::os::fd::OwnedFd::from(raw));
        let _first = StdStream::connect(&path)?;

        let mut second = Box::pin(UnixStream::connect(&path));
        assert!(poll!(second.as_mut()).is_pending());
        let before = corio::stats();
        sleep(Duration::from_millis(100)).await;
        assert!(poll!(second.as_mut()).is_pending());
        let turns = corio::stats().turns - before.turns;
        assert!(turns < 200, "{turns} turns for a wait");

        let third = timeout(Duration::from_millis(5), UnixStream::connect(&path)).await;
        assert_eq!(third.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);

        listener.accept()?;
        let second = second.await?;
        let (mut peer, _) = listener.accept()?;
        second.send_exact("hello").await.0?;
        let mut word = [0; 5];
        peer.read_exact(&mut word)?;
        assert_eq!(&word, b"hello");
        Ok(())
    });
}

/// Tried again and again by the driver, it could not be cancelled any more.
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

/// A table dropped between two runs of its context was in the way for ever.
#[test]
fn a_table_dropped_between_runs_makes_room_for_another() {
    let mut context = IoContext::new(8).unwrap();
    for _ in 0..3 {
        let table = context.run_until_done(async { FixedFiles::register(2) }).unwrap();
        drop(table);
    }
    let table = context.run_until_done(async { FixedFiles::register(2) }).unwrap();
    assert!(table.unregister().is_err(), "no context is running");
    drop(context);
    let mut context = IoContext::new(8).unwrap();
    context.run_until_done(async { FixedFiles::register(2) }).unwrap();
}
