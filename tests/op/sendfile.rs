//! Sendfile: from a file to a socket, without a copy.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use corio::net::TcpStream;
#[cfg(unix)]
use corio::net::UnixStream;
use corio::op::{AsyncSendfile, Incomplete};

#[cfg(unix)]
use crate::harness::is_nonblocking;
use crate::harness::{
    Outcome, assert_errno, errno, file_with, fill, local_pair, noise, settle, tcp_pair,
};

every_driver! {
    a_transfer_past_the_end_reports_the_bytes_sent,
    offsets_beyond_the_maximum_are_refused,
    a_file_truncated_midway_reports_the_bytes_sent,
}

#[cfg(target_os = "linux")]
every_driver! { the_cork_option_is_preserved }

#[cfg(unix)]
every_driver! {
    any_offset_and_length_is_sent,
    a_slow_reader_gets_every_byte,
    transfers_over_tcp_and_unix_sockets_run_at_once,
    a_peer_that_resets_midway_fails_its_own_transfer_only,
    a_timed_out_transfer_reports_the_bytes_sent,
    other_kinds_of_files_are_refused_or_copied,
    the_sockets_mode_is_preserved,
    files_go_out_in_order_with_other_sends,
}

/// Reads to the end in a thread of its own.
fn drain(
    mut from: impl Read + Send + 'static,
) -> std::thread::JoinHandle<std::io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map(|_| all)
    })
}

#[track_caller]
fn moved(result: std::io::Result<()>, kind: ErrorKind) -> u64 {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
    Incomplete::of(&error).expect("the error is `Incomplete`").moved
}

/// A long transfer sets `TCP_CORK`; afterwards the option is as before, and no byte is held back.
#[cfg(target_os = "linux")]
async fn the_cork_option_is_preserved() -> Outcome {
    const LEN: usize = (1 << 20) + 777;
    let contents = noise(LEN);
    let file = file_with(&contents)?;
    for on in [false, true] {
        let (near, mut far) = tcp_pair()?;
        let near = TcpStream::from(near);
        let socket = socket2::SockRef::from(&near);
        socket.set_tcp_cork(on)?;
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; LEN];
            far.read_exact(&mut all).map(|()| (all, far))
        });
        AsyncSendfile::new(&near, &file, 0, LEN as u64).await?;
        assert_eq!(socket.tcp_cork()?, on);
        if on {
            // The rest is sent now; otherwise the kernel sends it after 200 ms.
            socket.set_tcp_cork(false)?;
        }
        let (all, _far) = reader.join().expect("it does not panic")?;
        assert!(all == contents);
    }
    Ok(())
}

#[cfg(unix)]
async fn any_offset_and_length_is_sent() -> Outcome {
    const PAGE: usize = 4096;
    const LEN: usize = (3 << 20) + 777;
    let contents = noise(LEN);
    let file = file_with(&contents)?;
    let unix = std::os::unix::net::UnixStream::pair()?;
    let (tcp, far) = tcp_pair()?;
    let near = [UnixStream::from(unix.0)];
    let far_unix = drain(unix.1);
    let far_tcp = drain(far);
    let tcp = TcpStream::from(tcp);
    let mut expected = Vec::new();
    for offset in [0, 1, PAGE - 1, PAGE, PAGE + 1] {
        for len in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5] {
            near[0].send_file(&file, offset as u64, len as u64).await?;
            tcp.send_file(&file, offset as u64, len as u64).await?;
            expected.extend_from_slice(&contents[offset..offset + len]);
        }
    }
    near[0].send_file(&file, 0, LEN as u64).await?;
    tcp.send_file(&file, 0, LEN as u64).await?;
    near[0].send_file(&file, 1, LEN as u64 - 1).await?;
    tcp.send_file(&file, 1, LEN as u64 - 1).await?;
    expected.extend_from_slice(&contents);
    expected.extend_from_slice(&contents[1..]);
    let [near] = near;
    near.close().await?;
    tcp.close().await?;
    assert!(far_unix.join().expect("no panic")? == expected);
    assert!(far_tcp.join().expect("no panic")? == expected);
    // The file's own position is where it was.
    assert_eq!(std::io::Seek::stream_position(&mut &file)?, LEN as u64);
    Ok(())
}

async fn a_transfer_past_the_end_reports_the_bytes_sent() -> Outcome {
    let file = file_with(b"0123456789")?;
    let (near, far) = tcp_pair()?;
    let (near, far) = (TcpStream::from(near), drain(far));
    for (offset, len, went) in [(0, 11, 10), (4, 100, 6), (10, 1, 0), (11, 1, 0), (0, u64::MAX, 10)]
    {
        let result = near.send_file(&file, offset, len).await;
        assert_eq!(moved(result, ErrorKind::UnexpectedEof), went);
    }
    near.send_file(&file, 1000, 0).await?;
    near.close().await?;
    assert_eq!(far.join().expect("no panic")?, b"01234567894567890123456789");
    Ok(())
}

async fn offsets_beyond_the_maximum_are_refused() -> Outcome {
    let file = file_with(b"0123456789")?;
    let (near, _far) = local_pair()?;
    for offset in [1 << 62, i64::MAX as u64, 1 << 63, u64::MAX] {
        let error = near.send_file(&file, offset, 1).await.unwrap_err();
        assert_eq!(Incomplete::of(&error).expect("the error is `Incomplete`").moved, 0);
    }
    Ok(())
}

#[cfg(unix)]
async fn a_slow_reader_gets_every_byte() -> Outcome {
    const LEN: usize = 8 << 20;
    let contents = noise(LEN);
    let file = file_with(&contents)?;
    let (near, mut far) = tcp_pair()?;
    let near = TcpStream::from(near);
    let reading = std::thread::spawn(move || {
        let mut all = Vec::with_capacity(LEN);
        let mut chunk = vec![0; 100_000];
        loop {
            let len = far.read(&mut chunk)?;
            if len == 0 {
                return Ok::<_, std::io::Error>(all);
            }
            all.extend_from_slice(&chunk[..len]);
            std::thread::yield_now();
        }
    });
    near.send_file(&file, 0, LEN as u64).await?;
    near.close().await?;
    assert!(reading.join().expect("no panic")? == contents);
    Ok(())
}

#[cfg(unix)]
async fn transfers_over_tcp_and_unix_sockets_run_at_once() -> Outcome {
    const LEN: usize = 2 << 20;
    let (one, two) = (noise(LEN), noise(LEN + 99));
    let (first, second) = (file_with(&one)?, file_with(&two)?);
    let (a, b) = tcp_pair()?;
    let (c, d) = std::os::unix::net::UnixStream::pair()?;
    let (a, c) = (TcpStream::from(a), UnixStream::from(c));
    let (b, d) = (drain(b), drain(d));
    let results = futures_util::join!(
        a.send_file(&first, 0, LEN as u64),
        c.send_file(&second, 0, LEN as u64 + 99),
    );
    results.0?;
    results.1?;
    a.close().await?;
    c.close().await?;
    assert!(b.join().expect("no panic")? == one);
    assert!(d.join().expect("no panic")? == two);
    Ok(())
}

async fn a_file_truncated_midway_reports_the_bytes_sent() -> Outcome {
    const LEN: u64 = 16 << 20;
    let file = file_with(&noise(LEN as usize))?;
    let (near, far) = tcp_pair()?;
    let near = TcpStream::from(near);
    let sending = corio::spawn({
        let file = file.try_clone()?;
        async move { near.send_file(&file, 0, LEN).await }
    });
    settle().await;
    assert!(!sending.is_finished(), "the peer does not read yet");
    file.set_len(LEN / 2)?;
    let far = drain(far);
    let went = moved(sending.await?, ErrorKind::UnexpectedEof);
    assert_eq!(went, LEN / 2);
    settle().await;
    // Pages that were in the socket when the file was truncated arrive as zeros; the count is
    // exact.
    assert_eq!(far.join().expect("no panic")?.len() as u64, went);
    Ok(())
}

#[cfg(unix)]
async fn a_peer_that_resets_midway_fails_its_own_transfer_only() -> Outcome {
    const LEN: u64 = 16 << 20;
    let file = file_with(&noise(LEN as usize))?;
    let (a, b) = tcp_pair()?;
    let (c, d) = tcp_pair()?;
    let (a, c) = (TcpStream::from(a), TcpStream::from(c));
    let failing = corio::spawn({
        let file = file.try_clone()?;
        async move { a.send_file(&file, 0, LEN).await }
    });
    let other = corio::spawn({
        let file = file.try_clone()?;
        async move { c.send_file(&file, 0, LEN).await }
    });
    settle().await;
    assert!(!failing.is_finished());
    socket2::SockRef::from(&b).set_linger(Some(Duration::ZERO))?;
    drop(b);
    let error = failing.await?.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let went = Incomplete::of(&error).expect("the error is `Incomplete`").moved;
    assert!(went > 0 && went < LEN);
    // It is the only one that has an error.
    let d = drain(d);
    other.await??;
    settle().await;
    assert_eq!(d.join().expect("no panic")?.len() as u64, LEN);
    Ok(())
}

#[cfg(unix)]
async fn a_timed_out_transfer_reports_the_bytes_sent() -> Outcome {
    const LEN: u64 = 16 << 20;
    let contents = noise(LEN as usize);
    let file = file_with(&contents)?;
    let (near, far) = tcp_pair()?;
    let near = TcpStream::from(near);
    let limit = Duration::from_millis(5);
    let result = near.send_file(&file, 0, LEN).with_timeout(limit).await;
    let went = moved(result, ErrorKind::TimedOut);
    assert!(went > 0 && went < LEN);
    // The next one goes on where this one ended.
    let far = drain(far);
    near.send_file(&file, went, LEN - went).await?;
    near.close().await?;
    assert!(far.join().expect("no panic")? == contents);
    Ok(())
}

#[cfg(unix)]
async fn other_kinds_of_files_are_refused_or_copied() -> Outcome {
    let file = file_with(b"0123456789")?;
    let (near, _far) = local_pair()?;
    let (reader, _writer) = std::io::pipe()?;
    let cause = |result: std::io::Result<()>| {
        let error = result.unwrap_err();
        let incomplete = Incomplete::of(&error).expect("the error is `Incomplete`");
        assert_eq!(incomplete.moved, 0);
        Err::<(), _>(std::io::Error::from_raw_os_error(
            incomplete.cause.as_ref().and_then(std::io::Error::raw_os_error).unwrap(),
        ))
    };
    assert_errno(cause(near.send_file(&reader, 0, 1).await), errno::ESPIPE);
    let write_only = std::fs::File::options().write(true).open("/dev/null")?;
    assert_errno(cause(near.send_file(&write_only, 0, 1).await), errno::EBADF);
    let read_only = std::fs::File::open("Cargo.toml")?;
    assert_errno(cause(AsyncSendfile::new(&read_only, &file, 0, 1).await), errno::EBADF);
    let dir = std::fs::File::open("src")?;
    assert!(near.send_file(&dir, 0, 1).await.is_err());
    // To another file it is a copy, and to a pipe as well.
    let copy = tempfile::tempfile()?;
    AsyncSendfile::new(&copy, &file, 2, 8).await?;
    assert_eq!(copy.metadata()?.len(), 8);
    let (mut reader, writer) = std::io::pipe()?;
    AsyncSendfile::new(&writer, &file, 0, 10).await?;
    let mut all = [0; 10];
    reader.read_exact(&mut all)?;
    assert_eq!(&all, b"0123456789");
    assert!(!is_nonblocking(&writer) && !is_nonblocking(&copy));
    Ok(())
}

#[cfg(unix)]
async fn the_sockets_mode_is_preserved() -> Outcome {
    const LEN: u64 = 1 << 20;
    let contents = noise(LEN as usize);
    let file = file_with(&contents)?;
    for nonblocking in [false, true] {
        let (near, far) = tcp_pair()?;
        near.set_nonblocking(true)?;
        let filled = fill(&near)?;
        near.set_nonblocking(nonblocking)?;
        let near = std::rc::Rc::new(near);
        let sending = corio::spawn({
            let (near, file) = (near.clone(), file.try_clone()?);
            async move { AsyncSendfile::new(&*near, &file, 0, LEN).await }
        });
        settle().await;
        assert!(!sending.is_finished());
        assert_eq!(is_nonblocking(&*near), nonblocking, "while it waits");
        let far = drain(far);
        sending.await??;
        assert_eq!(is_nonblocking(&*near), nonblocking, "afterwards");
        drop(near);
        assert!(far.join().expect("no panic")?[filled..] == contents);
    }
    Ok(())
}

#[cfg(unix)]
async fn files_go_out_in_order_with_other_sends() -> Outcome {
    let file = file_with(b"body")?;
    let (near, far) = tcp_pair()?;
    let near = TcpStream::from(near);
    for _ in 0..50 {
        near.send_all("head ").await.0?;
        near.send_file(&file, 0, 4).await?;
        near.send_all(" tail\n").await.0?;
    }
    near.close().await?;
    let all = drain(far).join().expect("no panic")?;
    assert_eq!(all, b"head body tail\n".repeat(50));
    Ok(())
}
