//! Whole transfers: all bytes, or an error with the number transferred.

use std::io::{ErrorKind, Write};
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::time::Duration;

use corio::buf::IoBuf;
use corio::fs::File;
use corio::net::TcpStream;
use corio::op::*;

use crate::harness::{
    Outcome, assert_kind, corio_tcp_pair, errno, file_with, fill, local_pair, noise, settle,
    tcp_pair,
};

every_driver! {
    an_early_end_reports_the_bytes_received,
    a_cancelled_receive_reports_the_bytes_received,
    a_file_that_ends_early_is_an_unexpected_eof,
    a_slice_of_a_buffer_is_filled_exactly,
}

#[cfg(unix)]
every_driver! {
    a_reset_midway_is_not_an_early_end,
    the_error_states_the_cause_and_the_bytes_transferred,
    bytes_that_arrive_one_by_one_are_collected,
    a_timed_out_receive_reports_the_bytes_received,
    a_timed_out_send_reports_the_bytes_sent,
    a_full_disk_ends_a_write_with_an_error,
    an_empty_transfer_does_not_wait,
}

/// The number of bytes transferred, from the error.
#[track_caller]
fn moved<T: std::fmt::Debug>(result: std::io::Result<T>, kind: ErrorKind) -> u64 {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
    Incomplete::of(&error).expect("the error is `Incomplete`").moved
}

async fn an_early_end_reports_the_bytes_received() -> Outcome {
    for len in [0, 1, 7] {
        let (a, b) = local_pair()?;
        a.send(b"0123456"[..len].to_vec()).await.0?;
        a.close().await?;
        let (result, buf) = b.recv_exact(vec![9; 8]).await;
        assert_eq!(moved(result, ErrorKind::UnexpectedEof), len as u64);
        assert_eq!(buf, b"0123456"[..len]);
        let (result, _) = b.recv_exact([0; 1]).await;
        assert_eq!(moved(result, ErrorKind::UnexpectedEof), 0);
    }
    Ok(())
}

#[cfg(unix)]
async fn bytes_that_arrive_one_by_one_are_collected() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    let receiving = corio::spawn(async move { b.recv_exact([0; 10]).await });
    for byte in b"0123456789" {
        settle().await;
        assert!(!receiving.is_finished());
        a.send([*byte]).await.0?;
    }
    let (result, buf) = receiving.await?;
    assert_eq!((result?, &buf), ((), b"0123456789"));

    let (reader, mut writer) = std::io::pipe()?;
    let reading = corio::spawn(async move { AsyncReadExactAt::new(&reader, [0; 10], 0).await });
    for byte in b"0123456789" {
        settle().await;
        assert!(!reading.is_finished());
        writer.write_all(&[*byte])?;
    }
    let (result, buf) = reading.await?;
    assert_eq!((result?, &buf), ((), b"0123456789"));
    Ok(())
}

#[cfg(unix)]
async fn a_timed_out_receive_reports_the_bytes_received() -> Outcome {
    let limit = Duration::from_millis(2);
    for len in [0, 1, 5] {
        let (a, b) = local_pair()?;
        a.send(vec![7; len]).await.0?;
        let (result, buf) = b.recv_exact(vec![9; 8]).with_timeout(limit).await;
        assert_eq!(moved(result, ErrorKind::TimedOut), len as u64);
        assert_eq!(buf, vec![7; len]);
        // Nothing is lost: the rest comes with the next call.
        a.send(vec![8; 8]).await.0?;
        assert_eq!(b.recv_exact([0; 8]).await.1, [8; 8]);

        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(&vec![7; len])?;
        let read = AsyncReadExactAt::new(&reader, vec![9; 8], 0);
        let (result, buf) = read.with_timeout(limit).await;
        assert_eq!(moved(result, ErrorKind::TimedOut), len as u64);
        assert_eq!(buf, vec![7; len]);
    }
    Ok(())
}

async fn a_cancelled_receive_reports_the_bytes_received() -> Outcome {
    let (a, b) = local_pair()?;
    let receiving = corio::spawn(async move { b.recv_exact(vec![9; 8]).await });
    settle().await;
    a.send("abc").await.0?;
    settle().await;
    receiving.cancel();
    let (result, buf) = receiving.await?;
    let error = result.unwrap_err();
    let incomplete = Incomplete::of(&error).expect("the error is `Incomplete`");
    assert_eq!((incomplete.moved, incomplete.wanted), (3, 8));
    let cause = incomplete.cause.as_ref().and_then(std::io::Error::raw_os_error);
    assert_eq!(cause, Some(errno::ECANCELED));
    assert_eq!(buf, b"abc");
    Ok(())
}

#[cfg(unix)]
async fn a_timed_out_send_reports_the_bytes_sent() -> Outcome {
    const LEN: usize = 16 << 20;
    let limit = Duration::from_millis(5);
    let (a, b) = corio_tcp_pair()?;
    let sent = noise(LEN);
    let (result, buf) = a.send_all(sent.clone()).with_timeout(limit).await;
    let went = moved(result, ErrorKind::TimedOut) as usize;
    assert!(went > 0 && went < LEN && buf == sent, "{went} of {LEN}");
    a.close().await?;
    // The other side receives exactly as many bytes.
    let (result, got) = b.recv_exact(vec![0; LEN]).await;
    assert_eq!(moved(result, ErrorKind::UnexpectedEof) as usize, went);
    assert!(got == sent[..went]);

    let (reader, writer) = std::io::pipe()?;
    let write = AsyncWriteAllAt::new(&writer, sent.clone(), 0);
    let went = moved(write.with_timeout(limit).await.0, ErrorKind::TimedOut) as usize;
    drop(writer);
    let (result, got) = AsyncReadExactAt::new(&reader, vec![0; LEN], 0).await;
    assert_eq!(moved(result, ErrorKind::UnexpectedEof) as usize, went);
    assert!(got == sent[..went]);
    Ok(())
}

/// The socket's error must not be hidden by the bytes that arrived before it.
#[cfg(unix)]
async fn a_reset_midway_is_not_an_early_end() -> Outcome {
    let (a, mut b) = tcp_pair()?;
    let a = TcpStream::from(a);
    let receiving = corio::spawn(async move { a.recv_exact(vec![9; 8]).await });
    settle().await;
    b.write_all(b"abc")?;
    settle().await;
    socket2::SockRef::from(&b).set_linger(Some(Duration::ZERO))?;
    drop(b);
    let (result, buf) = receiving.await?;
    assert_eq!(moved(result, ErrorKind::ConnectionReset), 3);
    assert_eq!(buf, b"abc");
    Ok(())
}

async fn a_file_that_ends_early_is_an_unexpected_eof() -> Outcome {
    let contents = noise(100_000);
    let file = File::from(file_with(&contents)?);
    let (result, buf) = file.read_exact_at(vec![0; 90_000], 10_000).await;
    result?;
    assert_eq!(buf, contents[10_000..]);
    let (result, buf) = file.read_exact_at(vec![0; 90_001], 10_000).await;
    assert_eq!(moved(result, ErrorKind::UnexpectedEof), 90_000);
    assert_eq!(buf, contents[10_000..]);
    let (result, buf) = file.read_exact_at(vec![0; 1], 100_000).await;
    assert_eq!((moved(result, ErrorKind::UnexpectedEof), buf.len()), (0, 0));
    Ok(())
}

#[cfg(unix)]
async fn a_full_disk_ends_a_write_with_an_error() -> Outcome {
    let full = File::from(std::fs::File::options().write(true).open("/dev/full")?);
    let (result, buf) = full.write_all_at("lost", 0).await;
    assert_eq!((moved(result, ErrorKind::StorageFull), buf), (0, "lost"));
    Ok(())
}

#[cfg(unix)]
async fn an_empty_transfer_does_not_wait() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    let (c, d) = local_pair()?;
    let (reader, writer) = std::io::pipe()?;
    a.recv_exact(Vec::new()).await.0?;
    c.recv_exact([]).await.0?;
    AsyncReadExactAt::new(&reader, Vec::new(), 0).await.0?;
    b.send_all("").await.0?;
    AsyncWriteAllAt::new(&writer, "", 0).await.0?;
    // Not even on a full one.
    let writer = OwnedFd::from(writer);
    crate::harness::set_nonblocking(&writer);
    fill(std::fs::File::from(writer.try_clone()?))?;
    AsyncWriteAllAt::new(&writer, "", 0).await.0?;
    d.send_all(Vec::new()).await.0?;
    Ok(())
}

async fn a_slice_of_a_buffer_is_filled_exactly() -> Outcome {
    let (a, b) = local_pair()?;
    a.send_all(b"<0123456>".to_vec().slice(1..8)).await.0?;
    let mut buf = Vec::with_capacity(7 + 4);
    buf.extend_from_slice(b"got ");
    let end = 4 + 7;
    let (result, part) = b.recv_exact(buf.slice(4..end)).await;
    result?;
    assert_eq!(&part[..], b"0123456");
    assert_eq!(part.into_inner(), b"got 0123456");
    Ok(())
}

#[cfg(unix)]
async fn the_error_states_the_cause_and_the_bytes_transferred() -> Outcome {
    let (a, b) = local_pair()?;
    a.send("abc").await.0?;
    a.close().await?;
    let error = b.recv_exact(vec![0; 8]).await.0.unwrap_err();
    assert_eq!(error.to_string(), "unexpected end of file: 3 of 8 bytes were moved");
    let error = b.send_all("x").await.0.unwrap_err();
    assert_eq!(error.to_string(), "Broken pipe (os error 32): 0 of 1 bytes were moved");
    let source = std::error::Error::source(Incomplete::of(&error).expect("the details"));
    assert!(source.is_some_and(|source| source.is::<std::io::Error>()));
    let other = std::io::Error::from_raw_os_error(errno::EPIPE);
    assert!(Incomplete::of(&other).is_none());
    assert_kind(b.recv_exact([0; 1]).await.0, ErrorKind::UnexpectedEof);
    Ok(())
}
