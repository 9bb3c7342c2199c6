//! Whole transfers: all of it, or how far it came.
//!
//! # Why this file has `unsafe`
//! It has a buffer of its own, larger than the memory it takes.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use corio::buf::{IoBuf, IoBufMut};
use corio::fs::File;
use corio::net::{TcpStream, UnixStream};
use corio::op::*;

use crate::harness::{Outcome, assert_kind};
use crate::noise::noise;
use crate::support::{corio_tcp_pair, file_with, fill, settle, tcp_pair};

conformance! {
    an_early_end_tells_how_much_came,
    what_comes_bit_by_bit,
    a_timeout_tells_how_much_came,
    a_cancel_tells_how_much_came,
    a_timeout_tells_how_much_went,
    a_reset_midway_is_not_an_early_end,
    a_file_that_ends_early,
    a_disk_that_is_full,
    nothing_to_move_does_not_wait,
    a_part_of_a_buffer,
    the_error_says_what_happened,
    a_transfer_of_more_than_two_gib_fills_all_of_it,
}

/// How far a transfer came, if it says so.
#[track_caller]
fn moved<T: std::fmt::Debug>(result: std::io::Result<T>, kind: ErrorKind) -> u64 {
    let error = result.expect_err("an error");
    assert_eq!(error.kind(), kind, "{error}");
    Incomplete::of(&error).expect("it tells how far it came").moved
}

async fn an_early_end_tells_how_much_came() -> Outcome {
    for len in [0, 1, 7] {
        let (a, b) = UnixStream::pair()?;
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

async fn what_comes_bit_by_bit() -> Outcome {
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

async fn a_timeout_tells_how_much_came() -> Outcome {
    let limit = Duration::from_millis(2);
    for len in [0, 1, 5] {
        let (a, b) = UnixStream::pair()?;
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

async fn a_cancel_tells_how_much_came() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let receiving = corio::spawn(async move { b.recv_exact(vec![9; 8]).await });
    settle().await;
    a.send("abc").await.0?;
    settle().await;
    receiving.cancel();
    let (result, buf) = receiving.await?;
    let error = result.unwrap_err();
    let incomplete = Incomplete::of(&error).expect("it tells how far it came");
    assert_eq!((incomplete.moved, incomplete.wanted), (3, 8));
    let cause = incomplete.cause.as_ref().and_then(std::io::Error::raw_os_error);
    assert_eq!(cause, Some(libc::ECANCELED));
    assert_eq!(buf, b"abc");
    Ok(())
}

async fn a_timeout_tells_how_much_went() -> Outcome {
    const LEN: usize = 16 << 20;
    let limit = Duration::from_millis(5);
    let (a, b) = corio_tcp_pair()?;
    let sent = noise(LEN);
    let (result, buf) = a.send_exact(sent.clone()).with_timeout(limit).await;
    let went = moved(result, ErrorKind::TimedOut) as usize;
    assert!(went > 0 && went < LEN && buf == sent);
    a.close().await?;
    // Exactly so much is what the other side gets.
    let (result, got) = b.recv_exact(vec![0; LEN]).await;
    assert_eq!(moved(result, ErrorKind::UnexpectedEof) as usize, went);
    assert!(got == sent[..went]);

    let (reader, writer) = std::io::pipe()?;
    let write = AsyncWriteExactAt::new(&writer, sent.clone(), 0);
    let went = moved(write.with_timeout(limit).await.0, ErrorKind::TimedOut) as usize;
    drop(writer);
    let (result, got) = AsyncReadExactAt::new(&reader, vec![0; LEN], 0).await;
    assert_eq!(moved(result, ErrorKind::UnexpectedEof) as usize, went);
    assert!(got == sent[..went]);
    Ok(())
}

/// The error of the socket must not get lost behind the bytes that came before it.
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

async fn a_file_that_ends_early() -> Outcome {
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

async fn a_disk_that_is_full() -> Outcome {
    let full = File::from(std::fs::File::options().write(true).open("/dev/full")?);
    let (result, buf) = full.write_exact_at("lost", 0).await;
    assert_eq!((moved(result, ErrorKind::StorageFull), buf), (0, "lost"));
    Ok(())
}

async fn nothing_to_move_does_not_wait() -> Outcome {
    let (a, b) = corio_tcp_pair()?;
    let (c, d) = UnixStream::pair()?;
    let (reader, writer) = std::io::pipe()?;
    a.recv_exact(Vec::new()).await.0?;
    c.recv_exact([]).await.0?;
    AsyncReadExactAt::new(&reader, Vec::new(), 0).await.0?;
    b.send_exact("").await.0?;
    AsyncWriteExactAt::new(&writer, "", 0).await.0?;
    // Not even on a full one.
    let writer = OwnedFd::from(writer);
    crate::support::set_nonblocking(&writer);
    fill(std::fs::File::from(writer.try_clone()?))?;
    AsyncWriteExactAt::new(&writer, "", 0).await.0?;
    d.send_exact(Vec::new()).await.0?;
    Ok(())
}

async fn a_part_of_a_buffer() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    a.send_exact(b"<0123456>".to_vec().slice(1..8)).await.0?;
    let mut buf = Vec::with_capacity(7 + 4);
    buf.extend_from_slice(b"got ");
    let end = 4 + 7;
    let (result, part) = b.recv_exact(buf.slice(4..end)).await;
    result?;
    assert_eq!(&part[..], b"0123456");
    assert_eq!(part.into_inner(), b"got 0123456");
    Ok(())
}

async fn the_error_says_what_happened() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    a.send("abc").await.0?;
    a.close().await?;
    let error = b.recv_exact(vec![0; 8]).await.0.unwrap_err();
    assert_eq!(error.to_string(), "unexpected end of file: 3 of 8 bytes had moved");
    let error = b.send_exact("x").await.0.unwrap_err();
    assert_eq!(error.to_string(), "Broken pipe (os error 32): 0 of 1 bytes had moved");
    let source = std::error::Error::source(Incomplete::of(&error).expect("the details"));
    assert!(source.is_some_and(|source| source.is::<std::io::Error>()));
    let other = std::io::Error::from_raw_os_error(libc::EPIPE);
    assert!(Incomplete::of(&other).is_none());
    assert_kind(b.recv_exact([0; 1]).await.0, ErrorKind::UnexpectedEof);
    Ok(())
}

/// A buffer of 3 GiB in which every piece is the same memory.
struct Folded {
    start: *mut u8,
    filled: Rc<Cell<usize>>,
}

impl Folded {
    const LEN: usize = 3 << 30;
    const PIECE: usize = 1 << 24;

    fn new(filled: Rc<Cell<usize>>) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let memory = tempfile::tempfile_in("/dev/shm")?;
        memory.set_len(Self::PIECE as u64)?;
        let map = |at, len, flags, fd| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: either anywhere, or over a part of what the first call made.
            let start = unsafe { libc::mmap(at, len, access, flags, fd, 0) };
            if start == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(start) }
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = map(std::ptr::null_mut(), Self::LEN, flags, -1)?;
        for piece in 0..Self::LEN / Self::PIECE {
            let at = start.wrapping_byte_add(piece * Self::PIECE);
            map(at, Self::PIECE, libc::MAP_SHARED | libc::MAP_FIXED, memory.as_raw_fd())?;
        }
        Ok(Folded { start: start.cast(), filled })
    }
}

impl Drop for Folded {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and not used any more.
        unsafe { libc::munmap(self.start.cast(), Self::LEN) };
    }
}

// SAFETY: mapped, and so initialised, until it is dropped.
unsafe impl IoBuf for Folded {
    fn buf_ptr(&self) -> *const u8 {
        self.start
    }
    fn buf_len(&self) -> usize {
        Self::LEN
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Folded {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }
    fn buf_capacity(&self) -> usize {
        Self::LEN
    }
    unsafe fn set_filled(&mut self, n: usize) {
        self.filled.set(n);
    }
}

async fn a_transfer_of_more_than_two_gib_fills_all_of_it() -> Outcome {
    let filled = Rc::new(Cell::new(0));
    let zero = File::from(std::fs::File::open("/dev/zero")?);
    let (result, buf) = zero.read_exact_at(Folded::new(filled.clone())?, 0).await;
    result?;
    assert_eq!(filled.get(), Folded::LEN);
    drop(buf);
    Ok(())
}
