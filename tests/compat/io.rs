//! A connection by the I/O traits of other libraries.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::ready;

use corio::compat::Io;
use corio::spawn;

use crate::harness::{LocalStream, Outcome, local_pair, noise};

const LEN: usize = 300_000;

/// Sends back all that comes, then the end.
fn echo(stream: LocalStream) {
    drop(spawn(async move {
        loop {
            let (result, buf) = stream.recv(Vec::with_capacity(5000)).await;
            if !matches!(result, Ok(1..)) || stream.send_all(buf).await.0.is_err() {
                return;
            }
        }
    }));
}

#[cfg(feature = "tokio-io")]
mod by_tokio {
    use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    every_driver! {
        bytes_come_back,
        lines_are_found_in_what_was_received,
    }

    async fn read(io: &mut Io, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)).await?;
        let len = buf.filled().len();
        bytes.truncate(len);
        Ok(bytes)
    }

    async fn bytes_come_back() -> Outcome {
        let (a, b) = local_pair()?;
        echo(b);
        let mut io = Io::new(a);
        assert!(io.is_write_vectored());
        let (bytes, mut back) = (noise(LEN), Vec::new());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (first, second) = rest.split_at(rest.len().min(10));
            let slices = [IoSlice::new(first), IoSlice::new(&second[..second.len().min(7000)])];
            rest =
                &rest[poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &slices)).await?..];
            back.extend(read(&mut io, 3000).await?);
        }
        poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await?;
        poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await?;
        assert!(read(&mut io, 0).await?.is_empty(), "no room is not the end");
        loop {
            match read(&mut io, 100_000).await? {
                end if end.is_empty() => break,
                part => back.extend(part),
            }
        }
        assert!(back == bytes, "{} bytes came back", back.len());
        Ok(())
    }

    async fn lines_are_found_in_what_was_received() -> Outcome {
        let (a, b) = local_pair()?;
        let mut io = Io::new(a);
        b.send_all("one\ntwo\n").await.0?;
        b.close().await?;
        let mut lines = Vec::new();
        poll_fn(|cx| {
            loop {
                let filled = ready!(Pin::new(&mut io).poll_fill_buf(cx))?;
                let Some(end) = filled.iter().position(|&byte| byte == b'\n') else {
                    assert!(filled.is_empty(), "both came at once");
                    return std::task::Poll::Ready(io::Result::Ok(()));
                };
                lines.push(filled[..end].to_vec());
                AsyncBufRead::consume(Pin::new(&mut io), end + 1);
            }
        })
        .await?;
        assert_eq!(lines, [b"one", b"two"]);
        Ok(())
    }
}

#[cfg(feature = "futures-io")]
mod by_futures {
    use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

    use super::*;

    every_driver! {
        bytes_come_back_by_futures,
    }

    async fn bytes_come_back_by_futures() -> Outcome {
        let (a, b) = local_pair()?;
        echo(b);
        let mut io = Io::new(a);
        let (bytes, mut back) = (noise(LEN), Vec::new());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(20_000)];
            rest = &rest[poll_fn(|cx| Pin::new(&mut io).poll_write(cx, part)).await?..];
            let mut room = [0; 3000];
            let len = poll_fn(|cx| Pin::new(&mut io).poll_read(cx, &mut room)).await?;
            back.extend_from_slice(&room[..len]);
        }
        poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await?;
        poll_fn(|cx| Pin::new(&mut io).poll_close(cx)).await?;
        poll_fn(|cx| {
            loop {
                let filled = ready!(Pin::new(&mut io).poll_fill_buf(cx))?;
                if filled.is_empty() {
                    return std::task::Poll::Ready(io::Result::Ok(()));
                }
                back.extend_from_slice(filled);
                let len = filled.len();
                AsyncBufRead::consume(Pin::new(&mut io), len);
            }
        })
        .await?;
        assert!(back == bytes, "{} bytes came back", back.len());
        Ok(())
    }
}
