//! Receiving into the context's own memory.

use std::future::poll_fn;
use std::io::ErrorKind;
#[cfg(unix)]
use std::io::Write;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use corio::buf::RecvBuf;
use corio::net::{TcpListener, TcpStream};
use corio::op::{AsyncRecvBuf, RecvStream, is_cancelled};
use corio::{OpCode, RaceOutput, race, spawn, yield_now};

use crate::harness::{
    Case, Outcome, assert_at_rest, assert_kind, corio_tcp_pair, ended, local_pair, noise, settle,
};

every_driver! {
    every_byte_comes_in_order,
    a_stream_that_has_ended_stays_ended,
    a_receive_dropped_in_flight_loses_no_byte,
    a_receive_that_loses_a_race_loses_no_byte,
    a_receive_that_times_out_loses_no_byte,
    a_receive_in_a_cancelled_task_loses_no_byte,
    bytes_that_arrive_before_the_receive_are_kept,
    a_stream_that_is_not_read_does_not_block_others,
    streams_that_run_at_once_do_not_mix,
    a_received_buffer_can_be_sent_and_written,
    dropping_the_stream_and_its_socket_ends_the_connection,
    a_stream_works_after_another_was_leaked;
    cases:
    streams_that_start_at_once_share_the_buffers,
    buffers_that_are_kept_starve_no_other_stream,
    a_received_buffer_may_outlive_its_context,
    a_stream_belongs_to_one_context,
    a_pending_receive_is_counted,
    a_context_gives_its_memory_back,
    a_leaked_receive_of_a_dropped_stream_ends,
}

// Wine does not reset such a connection.
#[cfg(unix)]
every_driver! { bytes_before_a_reset_are_not_lost }

/// Receives up to the end; returns the bytes and the number of buffers.
async fn read_all(incoming: &mut RecvStream<'_>) -> std::io::Result<(Vec<u8>, usize)> {
    let (mut bytes, mut count) = (Vec::new(), 0);
    while let Some(buf) = incoming.recv().await? {
        assert!(!buf.is_empty() && buf.len() <= 64 * 1024, "{} bytes", buf.len());
        bytes.extend_from_slice(&buf);
        count += 1;
    }
    Ok((bytes, count))
}

/// Polls an operation once; it must be pending.
async fn begin(mut operation: std::pin::Pin<&mut AsyncRecvBuf<'_>>) {
    poll_fn(|cx| {
        assert!(operation.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

async fn every_byte_comes_in_order() -> Outcome {
    let (client, server) = corio_tcp_pair()?;
    let bytes = noise(5_000_001);
    let expected = bytes.clone();
    let sending = spawn(async move {
        let mut rest = bytes;
        let mut len = 1;
        while !rest.is_empty() {
            let part: Vec<u8> = rest.drain(..len.min(rest.len())).collect();
            client.send_all(part).await.0?;
            len = len * 3 % 200_003;
        }
        client.close().await
    });
    let (received, count) = read_all(&mut server.recv_stream()).await?;
    assert!(received == expected);
    assert!(count >= received.len() / (64 * 1024));
    sending.await.unwrap()?;
    Ok(())
}

async fn a_stream_that_has_ended_stays_ended() -> Outcome {
    let (a, b) = local_pair()?;
    a.send_all("last").await.0?;
    drop(a);
    let mut incoming = b.recv_stream();
    assert_eq!(incoming.recv().await?.as_deref(), Some(&b"last"[..]));
    for _ in 0..3 {
        assert!(incoming.recv().await?.is_none());
    }
    // The other way is still open, as far as this side knows.
    drop(incoming);
    assert!(b.recv_stream().recv().await?.is_none());
    Ok(())
}

#[cfg(unix)]
async fn bytes_before_a_reset_are_not_lost() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept().await?;
    (&client).write_all(b"before")?;
    let mut incoming = server.recv_stream();
    assert_eq!(incoming.recv().await?.as_deref(), Some(&b"before"[..]));
    // Unread bytes at the time of a close make it a reset.
    server.send_all("never read").await.0?;
    while client.peek(&mut [0; 16])? < 10 {}
    drop(client);
    assert_kind(incoming.recv().await, ErrorKind::ConnectionReset);
    assert!(incoming.recv().await?.is_none());
    Ok(())
}

async fn a_receive_dropped_in_flight_loses_no_byte() -> Outcome {
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    for round in 0..10_u8 {
        {
            let mut next = pin!(incoming.recv());
            begin(next.as_mut()).await;
            if round % 3 == 0 {
                // The receive has completed by then, but was not polled.
                a.send_all([round]).await.0?;
                yield_now().await;
            }
        }
        if round % 3 > 0 {
            a.send_all([round]).await.0?;
        }
        assert_eq!(incoming.recv().await?.as_deref(), Some(&[round][..]));
    }
    Ok(())
}

async fn a_receive_that_loses_a_race_loses_no_byte() -> Outcome {
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    let mut received = Vec::new();
    for round in 0..50_u8 {
        let sending = async {
            if round % 2 == 0 {
                a.send_all([round; 3]).await.0.unwrap();
            }
            yield_now().await;
        };
        match race(incoming.recv(), sending).await {
            RaceOutput::First(buf, _) => received.extend_from_slice(&buf?.unwrap()),
            RaceOutput::Second(Some(Ok(buf)), ()) => received.extend_from_slice(&buf.unwrap()),
            RaceOutput::Second(Some(Err(error)), ()) => assert!(is_cancelled(&error), "{error}"),
            RaceOutput::Second(None, ()) => {}
        }
    }
    drop(a);
    received.extend(read_all(&mut incoming).await?.0);
    let expected: Vec<u8> = (0..50).filter(|round| round % 2 == 0).flat_map(|n| [n; 3]).collect();
    assert_eq!(received, expected);
    Ok(())
}

async fn a_receive_that_times_out_loses_no_byte() -> Outcome {
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    for _ in 0..3 {
        let limited = incoming.recv().with_timeout(Duration::from_millis(1));
        assert_kind(limited.await, ErrorKind::TimedOut);
    }
    a.send_all("late").await.0?;
    assert_eq!(incoming.recv().await?.as_deref(), Some(&b"late"[..]));
    Ok(())
}

async fn a_receive_in_a_cancelled_task_loses_no_byte() -> Outcome {
    let (a, b) = local_pair()?;
    let b = std::rc::Rc::new(b);
    let stream = b.clone();
    let waiting = spawn(async move { stream.recv_stream().recv().await.map(|buf| buf.is_some()) });
    yield_now().await;
    waiting.cancel();
    if let Ok(result) = waiting.await {
        assert!(is_cancelled(&result.unwrap_err()));
    }
    // No stream uses the socket now.
    a.send_all("later").await.0?;
    drop(a);
    assert_eq!(read_all(&mut b.recv_stream()).await?.0, b"later");
    Ok(())
}

/// Far more bytes than the driver keeps for a stream.
async fn bytes_that_arrive_before_the_receive_are_kept() -> Outcome {
    let (client, server) = corio_tcp_pair()?;
    let bytes = noise(3_000_000);
    let expected = bytes.clone();
    let sending = spawn(async move {
        for part in bytes.chunks(1000) {
            client.send_all(part.to_vec()).await.0?;
        }
        client.close().await
    });
    let mut incoming = server.recv_stream();
    let mut received = Vec::new();
    for pause in 0.. {
        let Some(buf) = incoming.recv().await? else { break };
        received.extend_from_slice(&buf);
        drop(buf);
        if pause < 20 {
            corio::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(received == expected);
    sending.await.unwrap()?;
    Ok(())
}

async fn a_stream_that_is_not_read_does_not_block_others() -> Outcome {
    let (flood, flooded) = corio_tcp_pair()?;
    let mut idle = flooded.recv_stream();
    flood.send_all("first").await.0?;
    assert_eq!(idle.recv().await?.as_deref(), Some(&b"first"[..]));
    // Until everything between the two is full.
    let limit = Duration::from_millis(20);
    let mut sent = 0;
    while let (Ok(len), _) = flood.send(noise(100_000)).with_timeout(limit).await {
        sent += len;
    }
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    for round in 0..100 {
        a.send_all(vec![round; 1000]).await.0?;
        let mut received = 0;
        while received < 1000 {
            received += incoming.recv().await?.expect("more").len();
        }
    }
    drop(flood);
    assert!(read_all(&mut idle).await?.0.len() >= sent);
    Ok(())
}

async fn streams_that_run_at_once_do_not_mix() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serving = spawn(async move {
        for _ in 0..40 {
            let (stream, _) = listener.accept().await?;
            spawn(async move {
                let mut incoming = stream.recv_stream();
                while let Some(buf) = incoming.recv().await? {
                    stream.send_all(buf).await.0?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
        Ok::<_, std::io::Error>(listener)
    });
    let clients: Vec<_> = (0..40_usize)
        .map(|client| {
            spawn(async move {
                let stream = TcpStream::connect(address).await?;
                let mut incoming = stream.recv_stream();
                for round in 0..30 {
                    let len = (client * 7919 + round * 104_729) % 70_000 + 1;
                    let message: Vec<u8> = (0..len).map(|at| (at * 31 + client) as u8).collect();
                    let (sent, message) = stream.send_all(message).await;
                    sent?;
                    let mut answer = Vec::new();
                    while answer.len() < len {
                        answer.extend_from_slice(&incoming.recv().await?.expect("an answer"));
                    }
                    assert!(answer == message, "client {client}, round {round}");
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap()?;
    }
    drop(serving.await.unwrap()?);
    Ok(())
}

async fn a_received_buffer_can_be_sent_and_written() -> Outcome {
    use corio::buf::IoBuf;
    let (a, b) = local_pair()?;
    a.send_all("hello").await.0?;
    let buf = b.recv_stream().recv().await?.unwrap();
    let (result, buf) = b.send_all(buf).await;
    result?;
    assert_eq!(a.recv(vec![0; 16]).await.1, b"hello");
    let part = buf.slice(1..3);
    let (result, part) = b.send_all(part).await;
    result?;
    assert_eq!(a.recv(vec![0; 16]).await.1, b"el");
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("chunk");
    let file = corio::fs::File::create(&path).await?;
    file.write_all_at(part.into_inner(), 0).await.0?;
    file.close().await?;
    assert_eq!(std::fs::read(path)?, b"hello");
    Ok(())
}

/// The kernel's own receive must not keep the socket open.
async fn dropping_the_stream_and_its_socket_ends_the_connection() -> Outcome {
    let (a, b) = local_pair()?;
    for way in 0..2 {
        let (c, d) = local_pair()?;
        let mut incoming = d.recv_stream();
        c.send_all("x").await.0?;
        incoming.recv().await?.unwrap();
        if way == 1 {
            begin(pin!(incoming.recv())).await;
        }
        drop(incoming);
        drop(d);
        assert!(c.recv_stream().recv().await?.is_none());
    }
    let mut incoming = b.recv_stream();
    begin(pin!(incoming.recv())).await;
    drop(incoming);
    // Another receive may take the bytes once the kernel has cancelled the stream's.
    yield_now().await;
    corio::op::AsyncNop::new().await?;
    corio::sleep(Duration::from_millis(1)).await;
    a.send_all("x").await.0?;
    assert_eq!(b.recv(vec![0; 8]).await.1, b"x");
    Ok(())
}

async fn a_stream_works_after_another_was_leaked() -> Outcome {
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    let mut leaked = Box::pin(incoming.recv());
    begin(leaked.as_mut()).await;
    std::mem::forget(leaked);
    a.send_all("x").await.0?;
    assert_kind(incoming.recv().await, ErrorKind::ResourceBusy);
    // The leaked receive has that byte. A second stream starts without it.
    corio::op::AsyncNop::new().await?;
    drop(incoming);
    Ok(())
}

/// A lack of free buffers for the kernel is not an error, either.
fn buffers_that_are_kept_starve_no_other_stream(case: Case) -> Outcome {
    const ENOUGH: usize = 5_000_000;
    for limit in [1, 3 * 64 * 1024] {
        let mut context = case.driver.builder().receive_memory(limit).build()?;
        context.block_on(async {
            let (client, server) = corio_tcp_pair()?;
            let bytes = noise(2 * ENOUGH);
            let expected = bytes.clone();
            let sending = spawn(async move { client.send_all(bytes).await.0 });
            let mut incoming = server.recv_stream();
            let mut kept: Vec<RecvBuf> = Vec::new();
            let mut len = 0;
            while len < ENOUGH {
                let buf = incoming.recv().await?.expect("more");
                len += buf.len();
                kept.push(buf);
            }
            // A receive on another connection has to wait, too.
            let (a, b) = local_pair()?;
            let mut others = b.recv_stream();
            for round in 0..5_u8 {
                if round % 2 == 0 {
                    begin(pin!(others.recv())).await;
                }
                a.send_all([round]).await.0?;
                assert_eq!(others.recv().await?.as_deref(), Some(&[round][..]));
            }
            let mut received = kept.iter().flat_map(|buf| buf.iter().copied()).collect::<Vec<_>>();
            drop(kept);
            received.extend(read_all(&mut incoming).await?.0);
            assert!(received == expected);
            sending.await.unwrap()?;
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
        assert_at_rest(&context);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn pages() -> Result<usize, Box<dyn std::error::Error>> {
    Ok(std::fs::read_to_string("/proc/self/statm")?.split(' ').next().unwrap().parse()?)
}

/// Other systems have no such file.
#[cfg(not(target_os = "linux"))]
fn pages() -> Result<usize, Box<dyn std::error::Error>> {
    Ok(0)
}

fn streams_that_start_at_once_share_the_buffers(case: Case) -> Outcome {
    case.alone(|| {
        let mut context = case.context();
        let before = pages()?;
        context.block_on(async {
            let (mut ends, mut tasks) = (Vec::new(), Vec::new());
            for _ in 0..50 {
                let (a, b) = local_pair()?;
                ends.push(a);
                tasks.push(spawn(async move { b.recv_stream().recv().await }));
            }
            settle().await;
            for end in &ends {
                end.send_all("hello").await.0?;
            }
            for task in tasks {
                assert_eq!(task.await.unwrap()?.as_deref(), Some(&b"hello"[..]));
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
        // A thread of the test harness may have ended meanwhile.
        let grown = pages()?.saturating_sub(before) * 4096;
        // An allocator may reserve some per thread; received buffers may take up to 256 MiB.
        assert!(grown < 160 << 20, "{grown} bytes more");
        assert_at_rest(&context);
        Ok(())
    })
}

fn a_received_buffer_may_outlive_its_context(case: Case) -> Outcome {
    let (a, b) = local_pair()?;
    let (stream, mut sender) = (Box::leak(Box::new(b)), std::mem::ManuallyDrop::new(a));
    let mut incoming = stream.recv_stream();
    let mut context = case.context();
    let buf = context.block_on(async {
        sender.send_all("kept").await.0?;
        let buf = incoming.recv().await?;
        // The kernel goes on receiving, if it does that by itself.
        begin(pin!(incoming.recv())).await;
        Ok::<_, std::io::Error>(buf.unwrap())
    })?;
    drop(context);
    assert_eq!(&*buf, b"kept");
    // These bytes are not received.
    let mut other = case.context();
    other.block_on(async { sender.send_all("later").await.0 })?;
    assert_eq!(&*buf, b"kept");
    drop(incoming);
    drop(buf);
    // SAFETY: leaked above; what borrowed it is gone.
    drop(unsafe { Box::from_raw(stream) });
    // SAFETY: not used again.
    unsafe { std::mem::ManuallyDrop::drop(&mut sender) };
    Ok(())
}

fn a_stream_belongs_to_one_context(case: Case) -> Outcome {
    let (a, b) = local_pair()?;
    let mut incoming = b.recv_stream();
    case.context().block_on(async {
        a.send_all("x").await.0?;
        incoming.recv().await.map(drop)
    })?;
    assert_kind(case.context().block_on(incoming.recv()), ErrorKind::ResourceBusy);
    Ok(())
}

fn a_pending_receive_is_counted(case: Case) -> Outcome {
    let mut context = case.context();
    context.block_on(async {
        let (a, b) = local_pair()?;
        let mut incoming = b.recv_stream();
        a.send_all("x").await.0?;
        incoming.recv().await?;
        {
            let mut next = pin!(incoming.recv());
            begin(next.as_mut()).await;
            let text = format!("{next:?}");
            assert!(text.contains("Recv") && text.contains("Pending"), "{text}");
        }
        Ok::<_, std::io::Error>(())
    })?;
    let recv = context.stats().of(OpCode::Recv);
    assert_eq!((recv.submitted, recv.completed, recv.failed), (2, 2, 1));
    assert_at_rest(&context);
    Ok(())
}

/// Also without a grace period, so that the context's end abandons receives.
fn a_context_gives_its_memory_back(case: Case) -> Outcome {
    // So many that what they leak exceeds what an allocator reserves for a further thread: 64 MiB.
    const CONTEXTS: usize = 256;
    case.alone(|| {
        let mut first = None;
        for _ in 0..CONTEXTS {
            let mut context = case.driver.builder().grace_period(Duration::ZERO).build()?;
            let waiting = context.spawn(async {
                let (a, b) = local_pair()?;
                let mut incoming = b.recv_stream();
                a.send_all("x").await.0?;
                incoming.recv().await?;
                std::future::pending::<std::io::Result<()>>().await
            });
            while context.stats().of(OpCode::Recv).completed == 0 {
                context.poll_once(Some(Duration::from_millis(1)))?;
            }
            assert!(!waiting.is_finished());
            drop(context);
            first = first.or(Some(pages()?));
        }
        // Each context has used 1 MiB. (A sanitizer keeps freed memory.)
        let grown = pages()?.saturating_sub(first.unwrap()) * 4096;
        assert!(grown < (CONTEXTS / 2) << 20 || cfg!(corio_plain_cells), "{grown} bytes more");
        Ok(())
    })
}

fn a_leaked_receive_of_a_dropped_stream_ends(case: Case) -> Outcome {
    let mut context = case.context();
    context.block_on(async {
        let (a, b) = local_pair()?;
        let mut incoming = b.recv_stream();
        let mut leaked = Box::pin(incoming.recv());
        begin(leaked.as_mut()).await;
        std::mem::forget(leaked);
        drop(incoming);
        drop(a);
        ended().await;
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    assert_at_rest(&context);
    Ok(())
}
