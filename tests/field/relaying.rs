//! Proxies: what of one connection reaches the other when something goes wrong.

// # Why this file has `unsafe`
// It asks the system how much a socket has still to send.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use corio::net::{RelayLimits, relay, relay_with};
use corio::{Elapsed, IoContext, race, sleep, spawn};

use crate::harness::seccomp;
use crate::harness::{
    Case, LONG, Outcome, SHORT, assert_kind, corio_tcp_pair, eventually, exhaust_fds, limit_fds,
    noise, open_fds, settle,
};

every_driver! {
    what_follows_an_urgent_byte_arrives,
    an_urgent_byte_keeps_no_processor_busy,
    a_relay_that_is_cancelled_resets_both_sides,
    what_a_receive_stream_has_left_is_relayed_first,
    a_pair_of_which_one_side_has_ended_does_not_stay_for_ever;
    cases:
    an_early_answer_arrives_although_the_request_is_not_taken,
    what_was_sent_before_a_reset_arrives,
    a_reset_of_the_client_reaches_the_upstream_as_one,
    a_reset_that_a_send_has_noticed_is_no_end,
    a_relay_without_fds_for_pipes_goes_on,
    a_relay_opens_four_fds_and_makes_five_calls_a_message,
    no_operation_on_a_handle_duplicates_an_fd,
}

/// A connection to a relay, or from one: std's end of it, and this crate's.
type Side = (TcpStream, corio::net::TcpStream);

/// Makes a connection whose far end has a small buffer for what it receives.
fn side() -> std::io::Result<Side> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let far = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    far.set_recv_buffer_size(4096)?;
    far.connect(&listener.local_addr()?.into())?;
    far.set_read_timeout(Some(Duration::from_secs(60)))?;
    far.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok((far.into(), listener.accept()?.0.into()))
}

/// The results of a relay, of its client and of its upstream.
type Ends<C, U> = (std::io::Result<(u64, u64)>, C, U);

/// Runs a relay in a context while `client` and `upstream` run on threads of their own; returns the
/// relay's result.
fn relaying<C: Send + 'static, U: Send + 'static>(
    context: &mut IoContext,
    client: impl FnOnce(TcpStream) -> C + Send + 'static,
    upstream: impl FnOnce(TcpStream) -> U + Send + 'static,
) -> std::io::Result<Ends<C, U>> {
    let ((outer, a), (inner, b)) = (side()?, side()?);
    let client = thread::spawn(move || client(outer));
    let upstream = thread::spawn(move || upstream(inner));
    let relayed = context.block_on(async {
        let relayed = relay(&a, &b).await;
        drop((a, b));
        relayed
    });
    Ok((relayed, client.join().expect("no panic"), upstream.join().expect("no panic")))
}

/// Makes the close of a socket a reset.
fn reset(stream: TcpStream) {
    let options = socket2::SockRef::from(&stream);
    options.set_linger(Some(Duration::ZERO)).expect("an option of TCP");
}

/// The number of bytes that a socket's peer has not acknowledged.
fn unacknowledged(stream: &TcpStream) -> i32 {
    use std::os::fd::AsRawFd;
    let mut len = 0;
    // SAFETY: the call writes an integer.
    assert_eq!(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut len) }, 0);
    len
}

async fn what_follows_an_urgent_byte_arrives() -> Outcome {
    for ended in [false, true] {
        let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
        let relayed = spawn(async move { relay(&a, &b).await });
        client.send_all("abc").await.0?;
        assert_eq!(&upstream.recv_exact([0; 3]).await.1, b"abc");
        client.options().send_out_of_band(b"X")?;
        if !ended {
            settle().await;
        }
        client.send_all("def").await.0?;
        if ended {
            // The kernel's splice takes this for the end at once.
            client.shutdown(Shutdown::Write).await?;
        }
        let (received, buf) = upstream.recv_exact([0; 3]).await;
        received?;
        assert_eq!(&buf, b"def");
        client.send_all(if ended { "" } else { "ghi" }).await.0?;
        client.close().await?;
        let (received, buf) = upstream.recv_exact([0; 3]).await;
        assert_eq!(received.is_ok().then_some(&buf), (!ended).then_some(b"ghi"));
        upstream.close().await?;
        relayed.await.expect("no panic")?;
    }
    Ok(())
}

async fn an_urgent_byte_keeps_no_processor_busy() -> Outcome {
    // Its selector reports a condition, not a change, and has to be asked again for each event.
    if cfg!(corio_polling) {
        eprintln!("left out: this selector is asked again for each event");
        return Ok(());
    }
    let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
    let relayed = spawn(async move { relay(&a, &b).await });
    client.send_all("abc").await.0?;
    assert_eq!(&upstream.recv_exact([0; 3]).await.1, b"abc");
    client.options().send_out_of_band(b"X")?;
    sleep(SHORT).await;
    let before = corio::stats().syscalls;
    sleep(Duration::from_millis(50)).await;
    let calls = corio::stats().syscalls - before;
    assert!(calls < 50, "{calls} system calls while nothing comes");
    client.close().await?;
    upstream.close().await?;
    relayed.await.expect("no panic")?;
    Ok(())
}

/// The upstream answers, and closes with a part of the request unread: its system resets the
/// connection. The client is still sending then, and reads slowly.
fn an_early_answer_arrives_although_the_request_is_not_taken(case: Case) -> Outcome {
    const LEN: usize = 512 << 10;
    let answer = |mut stream: TcpStream, with_end: bool| {
        stream.read_exact(&mut [0]).expect("a part of the request");
        stream.write_all(&noise(LEN)).expect("the answer is taken");
        if with_end {
            stream.shutdown(Shutdown::Write).expect("it is connected");
        }
        eventually("the answer is acknowledged", || unacknowledged(&stream) == 0);
    };
    for with_end in [true, false] {
        let (result, received, ()) = relaying(
            &mut case.context(),
            |client| {
                let mut sender = client.try_clone().expect("an fd is free");
                let sending = thread::spawn(move || while sender.write_all(&[7; 65536]).is_ok() {});
                let (mut received, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(len @ 1..) = (&client).read(&mut part) {
                    received.extend_from_slice(&part[..len]);
                }
                sending.join().expect("no panic");
                received
            },
            move |upstream| answer(upstream, with_end),
        )?;
        assert!(received == noise(LEN), "{} bytes have arrived", received.len());
        let kind = result.expect_err("the request was not taken").kind();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    }
    Ok(())
}

/// The peer of the relay that is left reads late, so that the relay's own socket still holds what
/// was sent to it when the reset comes.
fn what_was_sent_before_a_reset_arrives(case: Case) -> Outcome {
    const LEN: usize = 512 << 10;
    let (go, went) = std::sync::mpsc::channel();
    let (result, (), received) = relaying(
        &mut case.context(),
        move |mut client| {
            client.write_all(&noise(LEN)).expect("it is taken");
            eventually("the relay has it", || unacknowledged(&client) == 0);
            reset(client);
            go.send(()).expect("it waits");
        },
        move |mut upstream| {
            went.recv().expect("it is reset");
            let (mut received, mut part) = (Vec::new(), [0; 4096]);
            loop {
                match upstream.read(&mut part) {
                    Ok(0) => panic!("an end after {} bytes", received.len()),
                    Ok(len) => received.extend_from_slice(&part[..len]),
                    Err(_) => return received,
                }
            }
        },
    )?;
    assert_kind(result, ErrorKind::ConnectionReset);
    assert!(received == noise(LEN), "{} bytes have arrived", received.len());
    Ok(())
}

fn a_reset_of_the_client_reaches_the_upstream_as_one(case: Case) -> Outcome {
    let (result, (), end) = relaying(
        &mut case.context(),
        |mut client| {
            client.write_all(&noise(1 << 20)).expect("it is taken");
            client.read_exact(&mut [0]).expect("the upstream has it");
            reset(client);
        },
        |mut upstream| {
            upstream.read_exact(&mut vec![0; 1 << 20]).expect("all of it arrives");
            upstream.write_all(b"!").expect("it is taken");
            upstream.read(&mut [0])
        },
    )?;
    assert_kind(result, ErrorKind::ConnectionReset);
    assert_kind(end, ErrorKind::ConnectionReset);
    Ok(())
}

/// The kernel reports a reset once: if to a send, then the receive finds an end.
fn a_reset_that_a_send_has_noticed_is_no_end(case: Case) -> Outcome {
    let (result, (), ends) = relaying(
        &mut case.context(),
        |mut client| {
            // The relay is sending when the reset comes, and receives nothing meanwhile.
            client.read_exact(&mut [0]).expect("the upstream sends");
            reset(client);
        },
        |mut upstream| {
            let sent = (0..1 << 20).try_for_each(|_| upstream.write_all(&[7; 65536]));
            [sent, upstream.read(&mut [0]).map(drop)]
        },
    )?;
    let kind = result.expect_err("the client was reset").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    // After an end, both would be a broken pipe or nothing.
    let is_reset = |end: &std::io::Result<()>| {
        end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    };
    assert!(ends.iter().any(is_reset), "{kind} {ends:?}");
    Ok(())
}

async fn a_relay_that_is_cancelled_resets_both_sides() -> Outcome {
    let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
    client.send_all("hello").await.0?;
    assert!(race(relay(&a, &b), sleep(SHORT)).await.is_second());
    drop((a, b));
    upstream.recv_exact([0; 5]).await.0?;
    assert_kind(upstream.recv([0; 1]).await.0, ErrorKind::ConnectionReset);
    assert_kind(client.recv([0; 1]).await.0, ErrorKind::ConnectionReset);
    Ok(())
}

async fn a_pair_of_which_one_side_has_ended_does_not_stay_for_ever() -> Outcome {
    let limits = RelayLimits::new().idle(LONG);
    let (short, long) = (Duration::from_millis(20), LONG);
    for (client_ends, limits) in [
        (true, limits.after_first(short).after_second(long)),
        (false, limits.after_first(long).after_second(short)),
    ] {
        let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
        let (ends, stays) = if client_ends { (client, upstream) } else { (upstream, client) };
        ends.shutdown(Shutdown::Write).await?;
        let error = relay_with(&a, &b, limits).await.expect_err("a limit");
        assert_eq!(Elapsed::of(&error).and_then(|elapsed| elapsed.limit()), Some(short));
        assert_eq!(stays.recv([0; 1]).await.0?, 0, "the end was passed on");
    }
    let ((_client, a), (_upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
    let error = relay_with(&a, &b, RelayLimits::new().idle(short)).await.expect_err("a limit");
    assert!(Elapsed::of(&error).is_some(), "{error}");
    Ok(())
}

/// Sends a message through a relay and one back.
async fn ask(client: &corio::net::TcpStream, upstream: &corio::net::TcpStream) -> Outcome {
    for (from, to) in [(client, upstream), (upstream, client)] {
        from.send_all(noise(1000)).await.0?;
        let (received, buf) = to.recv_exact(vec![0; 1000]).await;
        received?;
        assert_eq!(buf, noise(1000));
    }
    Ok(())
}

fn a_relay_without_fds_for_pipes_goes_on(case: Case) -> Outcome {
    case.alone(|| {
        for later in [false, true] {
            case.context().block_on(async {
                let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
                let mut limit = 0;
                if !later {
                    limit = exhaust_fds()?;
                }
                let relayed = spawn(async move { relay(&a, &b).await });
                ask(&client, &upstream).await?;
                if later {
                    limit = exhaust_fds()?;
                }
                for _ in 0..10 {
                    ask(&client, &upstream).await?;
                }
                client.close().await?;
                upstream.close().await?;
                assert_eq!(relayed.await.expect("no panic")?, (11_000, 11_000));
                limit_fds(limit)?;
                Outcome::Ok(())
            })?;
        }
        Ok(())
    })
}

/// A message costs a splice that finds nothing, a look at why, the wait, and two splices.
fn a_relay_opens_four_fds_and_makes_five_calls_a_message(case: Case) -> Outcome {
    if cfg!(corio_polling) {
        eprintln!("left out: this selector is asked again for each event");
        return Ok(());
    }
    const MESSAGES: u64 = 1000;
    case.alone(|| {
        let ((mut client, a), (mut upstream, b)) = (side()?, side()?);
        let mut context = case.context();
        // The driver's own fds are there before they are counted.
        context.block_on(settle());
        let before = open_fds();
        let most = Cell::new(0);
        let calls = context.stats().syscalls;
        let peers = thread::spawn(move || {
            let mut fds = 0;
            for _ in 0..MESSAGES / 2 {
                client.write_all(&[7; 64]).expect("it is taken");
                upstream.read_exact(&mut [0; 64]).expect("it arrives");
                upstream.write_all(&[7; 64]).expect("it is taken");
                client.read_exact(&mut [0; 64]).expect("it arrives");
                fds = fds.max(open_fds());
            }
            fds
        });
        context.block_on(relay(&a, &b))?;
        most.set(peers.join().expect("no panic"));
        let calls = context.stats().syscalls - calls;
        assert!(most.get() <= before + 4, "{} fds, {before} before", most.get());
        assert!(calls <= MESSAGES * 5 + 50, "{calls} calls for {MESSAGES} messages");
        Ok(())
    })
}

/// As a proxy does that reads a head, and then switches to relaying.
async fn what_a_receive_stream_has_left_is_relayed_first() -> Outcome {
    let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
    client.send_all("head").await.0?;
    let mut stream = a.recv_stream();
    assert_eq!(&stream.recv().await?.expect("the head")[..], b"head");
    client.send_all("body").await.0?;
    // The kernel receives it for the stream, if it receives ahead.
    settle().await;
    drop(stream);
    let relayed = spawn(async move { relay(&a, &b).await });
    client.send_all(" and more").await.0?;
    client.close().await?;
    let (received, buf) = upstream.recv_exact([0; 13]).await;
    received?;
    assert_eq!(&buf, b"body and more");
    upstream.close().await?;
    assert_eq!(relayed.await.expect("no panic")?, (13, 0));
    Ok(())
}

/// All of the calls that duplicate one are refused.
fn no_operation_on_a_handle_duplicates_an_fd(case: Case) -> Outcome {
    use corio::op::{AsyncPoll, AsyncSendfile, Interest};
    if !seccomp::is_here() {
        return Ok(());
    }
    let thread = thread::spawn(move || {
        case.context()
            .block_on(async {
                let ((client, a), (upstream, b)) = (corio_tcp_pair()?, corio_tcp_pair()?);
                let file = corio::fs::File::from(tempfile::tempfile()?);
                let listener = corio::net::TcpListener::bind("127.0.0.1:0")?;
                let far = TcpStream::connect(listener.local_addr()?)?;
                let socket = corio::net::Socket::tcp_v4()?;
                let udp = corio::net::UdpSocket::bind("127.0.0.1:0")?;
                for call in [libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl] {
                    seccomp::forbid(call as u32..=call as u32, libc::EMFILE)?;
                }
                file.write_all_at(noise(1000), 0).await.0?;
                file.read_exact_at(vec![0; 1000], 0).await.0?;
                file.sync_all().await?;
                file.set_len(1000).await?;
                assert_eq!(file.metadata().await?.len(), 1000);
                AsyncSendfile::new(&client, &file, 0, 1000).await?;
                a.recv_exact(vec![0; 1000]).await.0?;
                AsyncPoll::new(&client, Interest::WRITABLE).await?;
                let (accepted, _) = listener.accept().await?;
                drop(far);
                assert_eq!(accepted.recv([0; 1]).await.0?, 0);
                socket.connect(listener.local_addr()?).await?;
                udp.send_to("hello", udp.local_addr()?).await.0?;
                assert_eq!(udp.recv_from(vec![0; 5]).await.0?.0, 5);
                let relayed = spawn(async move { relay(&a, &b).await });
                for _ in 0..10 {
                    ask(&client, &upstream).await?;
                }
                client.shutdown(Shutdown::Write).await?;
                upstream.shutdown(Shutdown::Write).await?;
                relayed.await.expect("no panic")?;
                Outcome::Ok(())
            })
            .map_err(|error| error.to_string())
    });
    Ok(thread.join().expect("no panic")?)
}
