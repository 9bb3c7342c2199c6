//! Echo over loopback, in one run: corio on io_uring beside a bare io_uring loop, and corio on
//! the readiness driver beside a bare epoll loop.
//!
//! `cargo bench --bench echo [FILTER]`. The server has processor 0, the client processor 1. Both
//! rings have the same set-up, and all servers 4 KiB buffers; messages have 64 bytes.

// # Why this file has `unsafe`
// The client and the bare servers make their system calls by hand.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use corio::net::{TcpListener, TcpStream};
use corio::{DriverChoice, IoContext};
use io_uring::{opcode, types};
use support::{Sample, effort, paired, pin, ring, thread_cpu};

const MESSAGE: usize = 64;
const BUFFER: usize = 4096;

/// Runs `server` on a thread of its own and a client against it for a while.
fn measure(
    connections: usize,
    length: Duration,
    server: impl FnOnce(StdListener) + Send + 'static,
) -> Sample {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    // Accepted connections inherit both options.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
    support::control_congestion(&listener);
    let address = listener.local_addr().unwrap();
    let (cpu_out, cpu_in) = mpsc::channel();
    let serving = thread::spawn(move || {
        pin(0);
        let before = thread_cpu();
        server(listener);
        cpu_out.send(thread_cpu() - before).unwrap();
    });
    pin(1);
    let (count, wall) = client(address, connections, length);
    let cpu = cpu_in.recv().unwrap();
    serving.join().unwrap();
    Sample::new(count, wall, cpu)
}

/// A closed loop: every connection always has one message in flight.
fn client(address: SocketAddr, connections: usize, length: Duration) -> (u64, Duration) {
    let mut streams: Vec<StdStream> =
        (0..connections).map(|_| StdStream::connect(address).unwrap()).collect();
    for stream in &mut streams {
        stream.set_nodelay(true).unwrap();
        support::control_congestion(&*stream);
        // One round trip each, so that all are accepted before the clock starts.
        stream.write_all(&[7; MESSAGE]).unwrap();
        stream.read_exact(&mut [0; MESSAGE]).unwrap();
    }
    let mut ring = ring();
    let out = [7u8; MESSAGE];
    let mut buffers = vec![[0u8; MESSAGE]; connections];
    let send = |index: usize| {
        let fd = types::Fd(streams[index].as_raw_fd());
        opcode::Send::new(fd, out.as_ptr(), MESSAGE as u32).build().user_data(index as u64 * 2)
    };
    for index in 0..connections {
        // SAFETY: the buffers outlive the loop, which ends with nothing in flight.
        unsafe { ring.submission().push(&send(index)).unwrap() };
    }
    let (mut count, mut in_flight) = (0, connections);
    let start = Instant::now();
    let (submitter, mut sq, mut cq) = ring.split();
    while in_flight > 0 {
        sq.sync();
        submitter.submit_and_wait(1).unwrap();
        cq.sync();
        sq.sync();
        let over = start.elapsed() >= length;
        for entry in &mut cq {
            let index = entry.user_data() as usize / 2;
            assert_eq!(entry.result(), MESSAGE as i32, "a short or failed message");
            let next = if entry.user_data() % 2 == 0 {
                let fd = types::Fd(streams[index].as_raw_fd());
                let buffer = buffers[index].as_mut_ptr();
                opcode::Recv::new(fd, buffer, MESSAGE as u32)
                    .flags(libc::MSG_WAITALL)
                    .build()
                    .user_data(index as u64 * 2 + 1)
            } else {
                assert_eq!(buffers[index], out, "a wrong answer");
                count += 1;
                if over {
                    in_flight -= 1;
                    continue;
                }
                send(index)
            };
            // SAFETY: as above.
            unsafe { sq.push(&next).unwrap() };
        }
    }
    (count, start.elapsed())
}

/// The server on corio, written as a user would write it.
fn corio_server(listener: StdListener, driver: DriverChoice) {
    let mut context = IoContext::builder().driver(driver).build().unwrap();
    context.block_on(async move {
        let listener = TcpListener::from(listener);
        let (first, _) = listener.accept().await.unwrap();
        let first = corio::spawn(echo(first));
        corio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                corio::spawn(echo(stream));
            }
        });
        first.await.unwrap();
    });
}

async fn echo(stream: TcpStream) {
    let mut buf = Vec::with_capacity(BUFFER);
    loop {
        let (result, filled) = stream.recv(buf).await;
        if result.is_err() || filled.is_empty() {
            return;
        }
        let (result, sent) = stream.send_all(filled).await;
        if result.is_err() {
            return;
        }
        buf = sent;
    }
}

/// The same server as a bare loop on a ring: one entry per operation, nothing else.
fn bare_server(listener: StdListener) {
    const ACCEPT: u64 = u64::MAX;
    let mut ring = ring();
    let mut connections: Vec<(i32, Box<[u8; BUFFER]>)> = Vec::new();
    let accept = opcode::Accept::new(
        types::Fd(listener.as_raw_fd()),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    )
    .build()
    .user_data(ACCEPT);
    let (mut submitter, mut sq, mut cq) = ring.split();
    submitter.register_ring_fd().unwrap();
    // SAFETY: names no memory.
    unsafe { sq.push(&accept).unwrap() };
    loop {
        sq.sync();
        submitter.submit_and_wait(1).unwrap();
        cq.sync();
        sq.sync();
        for entry in &mut cq {
            let result = entry.result();
            if entry.user_data() == ACCEPT {
                assert!(result >= 0);
                nodelay(result);
                connections.push((result, Box::new([0; BUFFER])));
                // SAFETY: as above.
                unsafe { sq.push(&accept).unwrap() };
            }
            let index = match entry.user_data() {
                ACCEPT => connections.len() - 1,
                data => data as usize / 2,
            };
            let received = entry.user_data() != ACCEPT && entry.user_data() % 2 == 1;
            let (fd, buffer) = &mut connections[index];
            let fd = types::Fd(*fd);
            if received && result <= 0 {
                // The client has ended: results of operations still in flight do not matter.
                for (fd, _) in connections {
                    // SAFETY: fds of our own.
                    unsafe { libc::close(fd) };
                }
                return;
            }
            let next = if received {
                opcode::Send::new(fd, buffer.as_ptr(), result as u32)
                    .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                    .build()
                    .user_data(index as u64 * 2)
            } else {
                opcode::Recv::new(fd, buffer.as_mut_ptr(), BUFFER as u32)
                    .build()
                    .user_data(index as u64 * 2 + 1)
            };
            // SAFETY: buffers live in boxes until the function returns.
            unsafe { sq.push(&next).unwrap() };
        }
    }
}

/// The same server as a bare loop on epoll: one wait, then a receive and a send per connection that
/// is ready.
fn bare_epoll_server(listener: StdListener) {
    const LISTENER: u64 = u64::MAX;
    const EVENTS: usize = 256;
    listener.set_nonblocking(true).unwrap();
    // SAFETY: passes no memory.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0);
    let add = |fd: i32, key: u64| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: the event is valid.
        assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }, 0);
    };
    add(listener.as_raw_fd(), LISTENER);
    let mut connections: Vec<(i32, Box<[u8; BUFFER]>)> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    'serving: loop {
        // SAFETY: there is room for that many events.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count as usize] {
            if event.u64 == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let fd = stream.into_raw_fd();
                    add(fd, connections.len() as u64);
                    connections.push((fd, Box::new([0; BUFFER])));
                }
                continue;
            }
            let (fd, buffer) = &mut connections[event.u64 as usize];
            // SAFETY: the buffer is that long.
            let received = unsafe { libc::recv(*fd, buffer.as_mut_ptr().cast(), BUFFER, 0) };
            if received <= 0 {
                break 'serving;
            }
            let flags = libc::MSG_NOSIGNAL;
            // SAFETY: that much has been received.
            let sent = unsafe { libc::send(*fd, buffer.as_ptr().cast(), received as usize, flags) };
            assert_eq!(sent, received);
        }
    }
    for fd in connections.into_iter().map(|(fd, _)| fd).chain([epoll]) {
        // SAFETY: fds of our own.
        unsafe { libc::close(fd) };
    }
}

fn nodelay(fd: i32) {
    use std::os::fd::FromRawFd;
    // SAFETY: the fd was just accepted; it is given back right away.
    let stream = unsafe { StdStream::from_raw_fd(fd) };
    stream.set_nodelay(true).unwrap();
    let _ = stream.into_raw_fd();
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let (rounds, length) = effort();
    println!("ratios to the bare loop: median (least to most) of {rounds} rounds");
    type Server = fn(StdListener);
    let pairs: [(&str, Server, Server); 2] = [
        ("io_uring", |listener| corio_server(listener, DriverChoice::Uring), bare_server),
        ("epoll", |listener| corio_server(listener, DriverChoice::Readiness), bare_epoll_server),
    ];
    for (driver, corio, bare) in pairs {
        for connections in [1, 50, 1000] {
            let name = format!("echo on {driver}, {connections} connections");
            if name.contains(&filter) {
                paired(
                    &name,
                    rounds,
                    || measure(connections, length, corio),
                    || measure(connections, length, bare),
                );
            }
        }
    }
}
