//! Operations that may complete without a turn of the loop: the results are the same as if they
//! waited.

// # Why this file has `unsafe`
// It drops a file's pages from the page cache.

use std::io::{ErrorKind, Read, Write};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::time::Duration;

use corio::fs::File;
use corio::net::TcpStream;

use crate::harness::{Outcome, assert_kind, corio_tcp_pair, noise, tcp_pair};

every_driver! {
    reads_do_not_depend_on_the_page_cache,
    metadata_of_an_open_file_is_current,
    bytes_that_wait_in_the_socket_arrive_in_order,
    a_receive_on_a_drained_socket_waits,
    answers_wait_for_a_peer_that_does_not_read,
}

#[cfg(unix)]
every_driver! { no_send_overtakes_an_earlier_one }

/// Drops a file's pages from the page cache, if the system permits it.
#[cfg(target_os = "linux")]
fn forget(file: &std::fs::File) -> std::io::Result<()> {
    file.sync_all()?;
    // SAFETY: passes no memory.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

async fn reads_do_not_depend_on_the_page_cache() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let contents = noise(5 * 65_536 + 123);
    std::fs::write(&path, &contents)?;
    let theirs = std::fs::File::open(&path)?;
    let file = File::open(&path).await?;
    let end = contents.len();
    let starts = [0, 1, 4095, 4096, 65_536, 200_001, end - 124, end - 1, end, end + 1, 10 * end];
    for start in starts {
        for len in [1, 4096, 70_000, 2 * end] {
            let expected = &contents[start.min(end)..(start + len).min(end).max(start.min(end))];
            forget(&theirs)?;
            // The second finds in memory the bytes that the first has read, and perhaps more.
            for times in 0..2 {
                let (result, buf) = file.read_at(vec![0x55; len], start as u64).await;
                let case = format!("{len} bytes at {start}, read {times} times before");
                assert_eq!(result?, expected.len(), "{case}");
                assert!(buf[..expected.len()] == *expected, "{case}");
                assert!(buf[expected.len()..].iter().all(|byte| *byte == 0x55), "{case}");
            }
        }
    }
    Ok(())
}

async fn metadata_of_an_open_file_is_current() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    let mut theirs = std::fs::File::create(&path)?;
    let file = File::open(&path).await?;
    for _ in 0..3 {
        theirs.write_all(b"more")?;
        let (ours, expected) = (file.metadata().await?, theirs.metadata()?);
        assert_eq!(ours.len(), expected.len());
        assert_eq!(ours.modified()?, expected.modified()?);
        assert!(ours.is_file());
    }
    Ok(())
}

async fn bytes_that_wait_in_the_socket_arrive_in_order() -> Outcome {
    let (a, mut b) = tcp_pair()?;
    let a = TcpStream::from(a);
    let sent = noise(1 << 20);
    let expected = sent.clone();
    let sending = std::thread::spawn(move || b.write_all(&sent).map(|()| drop(b)));
    let mut received = Vec::new();
    // Various sizes: buffers smaller than, equal to and larger than the bytes that wait.
    for size in [1, 100, 1000, 4096, 5000].into_iter().cycle() {
        let (result, buf) = a.recv(Vec::with_capacity(size)).await;
        if result? == 0 {
            break;
        }
        assert!(buf.len() <= size);
        received.extend_from_slice(&buf);
    }
    assert!(received == expected, "{} bytes came", received.len());
    sending.join().expect("no panic")?;
    Ok(())
}

async fn a_receive_on_a_drained_socket_waits() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    for _ in 0..3 {
        b.send_all(noise(10_000)).await.0?;
        let mut left = 10_000;
        while left > 0 {
            // Never more than was sent: the last receive leaves nothing.
            left -= a.recv(vec![0; left.min(1000)]).await.0?;
        }
        let limit = Duration::from_millis(5);
        let (result, buf) = a.recv(vec![0x55; 8]).with_timeout(limit).await;
        assert_kind(result, ErrorKind::TimedOut);
        assert_eq!(buf, [0x55; 8]);
        let waiting = a.recv(vec![0; 8]);
        let late = async {
            corio::yield_now().await;
            b.send_all("late").await.0
        };
        let ((result, buf), sent) = futures_util::join!(waiting, late);
        sent?;
        assert_eq!(&buf[..result?], b"late");
    }
    Ok(())
}

/// An inline send stays behind a send that is queued.
#[cfg(unix)]
async fn no_send_overtakes_an_earlier_one() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    b.send_all(noise(8192)).await.0?;
    for _ in 0..4 {
        assert_eq!(a.recv(vec![0; 1000]).await.0?, 1000);
        let head = a.send_msg(vec![b"he".to_vec(), b"ad".to_vec()]);
        let ((head, _), (body, _)) = futures_util::join!(head, a.send("body"));
        assert_eq!((head?, body?), (4, 4));
        let (result, received) = b.recv_exact([0; 8]).await;
        result?;
        assert_eq!(&received, b"headbody");
    }
    Ok(())
}

async fn answers_wait_for_a_peer_that_does_not_read() -> Outcome {
    let (a, b) = tcp_pair()?;
    let a = TcpStream::from(a);
    // More than both sockets' buffers hold, so that the answers have to wait for the reader, which
    // begins when the sender has to wait.
    let sent = noise(32 << 20);
    let expected = sent.clone();
    let mut writer = b.try_clone()?;
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).and_then(|()| writer.shutdown(std::net::Shutdown::Write))
    });
    let reading = std::thread::spawn(move || {
        let (mut b, mut answer) = (b, Vec::new());
        b.peek(&mut [0])?;
        b.read_to_end(&mut answer).map(|_| answer)
    });
    let mut buf = Vec::with_capacity(4096);
    loop {
        let (result, received) = a.recv(buf).await;
        if result? == 0 {
            break;
        }
        let (result, sent) = a.send_all(received).await;
        result?;
        buf = sent;
    }
    a.close().await?;
    writing.join().expect("no panic")?;
    let answer = reading.join().expect("no panic")?;
    assert!(answer == expected, "{} bytes came back", answer.len());
    Ok(())
}
