//! Polls for urgent data, whose events the drivers have to check.

// # Why this file has `unsafe`
// It makes a pseudoterminal, and flushes it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use corio::op::{AsyncPoll, Interest, Readiness};
use corio::{JoinHandle, spawn};

use crate::harness::{Outcome, errno, settle, tcp_pair};

every_driver! {
    a_poll_for_urgent_data_alone_is_woken_by_it,
    plain_data_does_not_wake_a_poll_for_urgent_data,
    urgent_data_is_not_reported_where_there_is_none,
    a_poll_for_urgent_data_of_a_terminal_is_woken,
    a_cancelled_poll_for_urgent_data_ends,
}

/// How often the other side gets to say something: each time, what waits must stay as it is.
const ROUNDS: usize = 20;

fn poll(socket: &TcpStream, interest: Interest) -> JoinHandle<std::io::Result<Readiness>> {
    let socket = socket.try_clone().expect("an fd");
    spawn(async move { AsyncPoll::new(&socket, interest).await })
}

async fn a_poll_for_urgent_data_alone_is_woken_by_it() -> Outcome {
    for _ in 0..ROUNDS {
        let (near, far) = tcp_pair()?;
        let urgent = poll(&far, Interest::PRIORITY);
        settle().await;
        assert!(!urgent.is_finished());
        socket2::SockRef::from(&near).send_out_of_band(b"!")?;
        assert_eq!(urgent.await??, Readiness::PRIORITY);
    }
    Ok(())
}

async fn plain_data_does_not_wake_a_poll_for_urgent_data() -> Outcome {
    let (mut near, mut far) = tcp_pair()?;
    let urgent = poll(&far, Interest::PRIORITY);
    for _ in 0..ROUNDS {
        near.write_all(b"x")?;
        // On loopback it has arrived when this returns.
        AsyncPoll::new(&far, Interest::READABLE).await?;
        settle().await;
        assert!(!urgent.is_finished());
        far.read_exact(&mut [0])?;
    }
    socket2::SockRef::from(&near).send_out_of_band(b"!")?;
    assert_eq!(urgent.await??, Readiness::PRIORITY);
    Ok(())
}

async fn urgent_data_is_not_reported_where_there_is_none() -> Outcome {
    let both = Interest::PRIORITY | Interest::READABLE;
    let (mut near, mut far) = tcp_pair()?;
    for _ in 0..ROUNDS {
        let either = poll(&far, both);
        settle().await;
        near.write_all(b"x")?;
        assert_eq!(either.await??, Readiness::READABLE);
        far.read_exact(&mut [0])?;
    }
    Ok(())
}

/// Opens the two sides of a pseudoterminal in packet mode: a flush on one side is urgent data on
/// the other (`ioctl_tty(2)`).
fn terminal_in_packet_mode() -> std::io::Result<(File, File)> {
    let master = OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
    let (unlocked, on) = (0i32, 1i32);
    let mut number = 0u32;
    // SAFETY: each request reads or writes the number that it is passed.
    unsafe {
        let fd = master.as_raw_fd();
        assert_eq!(libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked), 0);
        assert_eq!(libc::ioctl(fd, libc::TIOCPKT, &raw const on), 0);
        assert_eq!(libc::ioctl(fd, libc::TIOCGPTN, &raw mut number), 0);
    }
    let near = OpenOptions::new().read(true).write(true).open(format!("/dev/pts/{number}"))?;
    Ok((near, master))
}

async fn a_poll_for_urgent_data_of_a_terminal_is_woken() -> Outcome {
    let (near, master) = match terminal_in_packet_mode() {
        Ok(terminal) => terminal,
        Err(error) => {
            println!("left out: no pseudoterminals here: {error}");
            return Ok(());
        }
    };
    let urgent = spawn(async move { AsyncPoll::new(&master, Interest::PRIORITY).await });
    settle().await;
    assert!(!urgent.is_finished());
    // SAFETY: passes no memory.
    assert_eq!(unsafe { libc::tcflush(near.as_raw_fd(), libc::TCIFLUSH) }, 0);
    assert!(urgent.await??.contains(Readiness::PRIORITY));
    Ok(())
}

async fn a_cancelled_poll_for_urgent_data_ends() -> Outcome {
    let (_near, far) = tcp_pair()?;
    let urgent = poll(&far, Interest::PRIORITY);
    settle().await;
    urgent.cancel();
    let ended = urgent.await;
    assert!(ended.is_err() || ended?.is_err_and(|e| e.raw_os_error() == Some(errno::ECANCELED)));
    Ok(())
}
