//! Closes that take long, and what runs beside them.

// # Why this file has `unsafe`
// It sets an option by its number.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use corio::fs::File;
use corio::net::{Socket, TcpListener, TcpStream};
use corio::op::AsyncClose;
use socket2::SockRef;

use crate::harness::{Case, LONG, Outcome, SHORT, assert_kind, settle};

every_driver! {
    a_dropped_stream_that_lingers_does_not_stop_the_loop,
    an_accepted_stream_lingers_as_its_listener_and_does_not_stop_the_loop,
    a_raw_fd_that_was_made_to_linger_does_not_stop_the_loop,
    an_adopted_socket_that_lingers_does_not_stop_the_loop,
    a_close_that_was_never_polled_does_not_stop_the_loop,
    many_closes_that_linger_do_not_hold_files_up,
    a_linger_time_of_zero_still_resets;
    cases:
    a_close_that_lingers_waits_without_stopping_the_loop,
    a_close_that_lingers_ends_with_its_time_limit,
    a_context_ends_although_its_streams_linger,
    a_usual_close_is_one_system_call,
}

#[cfg(target_os = "linux")]
every_driver! { cases: lingering_closes_need_no_thread }

/// A listener of std, whose connections receive nothing until they are read.
fn listener() -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Sends until nothing more fits, so that a close has something to wait for.
async fn fill(stream: &TcpStream) {
    while stream.send(vec![0; 1 << 20]).with_timeout(Duration::from_millis(20)).await.0.is_ok() {}
}

/// A stream that lingers for long and has something to send, and its peer.
async fn lingering() -> io::Result<(TcpStream, std::net::TcpStream)> {
    let (listener, address) = listener()?;
    let stream = TcpStream::connect(address).await?;
    let peer = listener.accept()?.0;
    stream.options().set_linger(Some(LONG))?;
    fill(&stream).await;
    Ok((stream, peer))
}

/// Checks that the peer gets everything, and a clean end.
fn assert_clean_end(mut peer: std::net::TcpStream) -> io::Result<()> {
    assert!(io::copy(&mut peer, &mut io::sink())? > 0);
    Ok(())
}

async fn a_dropped_stream_that_lingers_does_not_stop_the_loop() -> Outcome {
    let (stream, peer) = lingering().await?;
    drop(stream);
    corio::sleep(SHORT).await;
    Ok(assert_clean_end(peer)?)
}

async fn an_accepted_stream_lingers_as_its_listener_and_does_not_stop_the_loop() -> Outcome {
    let socket = Socket::tcp_v4()?;
    socket.set_linger(Some(LONG))?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener: TcpListener = socket.listen(8)?;
    let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (stream, _) = listener.accept().await?;
    // Not by `options`, after which any stream is suspected to linger.
    fill(&stream).await;
    drop(stream);
    corio::sleep(SHORT).await;
    Ok(assert_clean_end(peer)?)
}

async fn a_raw_fd_that_was_made_to_linger_does_not_stop_the_loop() -> Outcome {
    let (listener, address) = listener()?;
    let stream = TcpStream::connect(address).await?;
    let peer = listener.accept()?.0;
    let time = libc::linger { l_onoff: 1, l_linger: 3600 };
    // SAFETY: the option's value has the length that is passed.
    let set = unsafe {
        let (fd, len) = (stream.as_raw_fd(), size_of::<libc::linger>() as libc::socklen_t);
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const time).cast(), len)
    };
    assert_eq!(set, 0);
    fill(&stream).await;
    drop(stream);
    corio::sleep(SHORT).await;
    Ok(assert_clean_end(peer)?)
}

async fn an_adopted_socket_that_lingers_does_not_stop_the_loop() -> Outcome {
    let (listener, address) = listener()?;
    let stream = std::net::TcpStream::connect(address)?;
    let peer = listener.accept()?.0;
    SockRef::from(&stream).set_linger(Some(LONG))?;
    let stream = TcpStream::from(stream);
    fill(&stream).await;
    drop(stream);
    corio::sleep(SHORT).await;
    Ok(assert_clean_end(peer)?)
}

async fn a_close_that_was_never_polled_does_not_stop_the_loop() -> Outcome {
    let (stream, peer) = lingering().await?;
    drop(stream.close());
    corio::sleep(SHORT).await;
    assert_clean_end(peer)?;
    let (stream, peer) = lingering().await?;
    drop(AsyncClose::new(OwnedFd::try_from(stream)?));
    corio::sleep(SHORT).await;
    Ok(assert_clean_end(peer)?)
}

async fn many_closes_that_linger_do_not_hold_files_up() -> Outcome {
    let mut peers = Vec::new();
    let mut closes = Vec::new();
    // More than the threads that a driver has for blocking calls.
    for _ in 0..20 {
        let (stream, peer) = lingering().await?;
        peers.push(peer);
        closes.push(corio::spawn(stream.close()));
    }
    settle().await;
    let dir = tempfile::tempdir()?;
    let file = File::create(dir.path().join("file")).await?;
    file.write_all_at("hello", 0).await.0?;
    file.sync_all().await?;
    file.close().await?;
    drop(peers);
    for close in closes {
        // The peers have reset their connections.
        let _ = close.await?;
    }
    Ok(())
}

async fn a_linger_time_of_zero_still_resets() -> Outcome {
    let (listener, address) = listener()?;
    let stream = TcpStream::connect(address).await?;
    let mut peer = listener.accept()?.0;
    stream.options().set_linger(Some(Duration::ZERO))?;
    drop(stream);
    assert_kind(peer.read(&mut [0]), io::ErrorKind::ConnectionReset);
    Ok(())
}

fn a_close_that_lingers_waits_without_stopping_the_loop(case: Case) -> Outcome {
    case.context().block_on(async {
        let (stream, mut peer) = lingering().await?;
        let (go, wait) = mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            wait.recv().expect("the test goes on");
            io::copy(&mut peer, &mut io::sink())
        });
        let close = corio::spawn(stream.close());
        for _ in 0..10 {
            corio::sleep(SHORT).await;
        }
        assert!(!close.is_finished(), "nothing was received, so the close has to wait");
        go.send(())?;
        close.await??;
        assert!(reader.join().expect("no panic")? > 0);
        Ok(())
    })
}

fn a_close_that_lingers_ends_with_its_time_limit(case: Case) -> Outcome {
    case.context().block_on(async {
        let (stream, peer) = lingering().await?;
        assert_kind(stream.close().with_timeout(SHORT).await, io::ErrorKind::TimedOut);
        // The close goes on: the peer sees the end.
        Ok(assert_clean_end(peer)?)
    })
}

fn a_context_ends_although_its_streams_linger(case: Case) -> Outcome {
    let mut peers = Vec::new();
    let mut context = case.context();
    context.block_on(async {
        for _ in 0..3 {
            let (stream, peer) = lingering().await?;
            peers.push(peer);
            drop(corio::spawn(async move {
                corio::sleep(LONG).await;
                drop(stream);
            }));
        }
        Ok::<_, io::Error>(())
    })?;
    let (stream, peer) = context.block_on(lingering())?;
    drop(context);
    // Outside of a context it does not wait either.
    drop(stream);
    for peer in peers {
        assert_clean_end(peer)?;
    }
    Ok(assert_clean_end(peer)?)
}

fn a_usual_close_is_one_system_call(case: Case) -> Outcome {
    case.context().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let _peer = std::net::TcpStream::connect(listener.local_addr()?)?;
        let (stream, _) = listener.accept().await?;
        let calls = || corio::stats().syscalls;
        let before = calls();
        drop(stream);
        assert_eq!(calls() - before, 1);
        Ok(())
    })
}

/// Where no thread can be started, a close does not linger.
#[cfg(target_os = "linux")]
fn lingering_closes_need_no_thread(case: Case) -> Outcome {
    use crate::harness::seccomp;
    case.alone(|| {
        if !seccomp::is_here() {
            return Ok(());
        }
        let mut context = case.context();
        let clone = [libc::SYS_clone as u32, libc::SYS_clone3 as u32];
        for call in clone {
            seccomp::forbid(call..=call, libc::EAGAIN)?;
        }
        context.block_on(async {
            let (stream, peer) = lingering().await?;
            stream.close().await?;
            Ok(assert_clean_end(peer)?)
        })
    })
}
