//! Files over loopback: `AsyncSendfile` beside a bare `epoll(7)` + `sendfile(2)` loop.
//!
//! `cargo bench --bench sendfile [FILTER]`. The server has processor 0, the client processor 1. One
//! byte requests the whole file; files are page-cached. The client makes the kernel discard the
//! bytes (`MSG_TRUNC`), so that the client's work is not measured; the tests check the contents.

// # Why this file has `unsafe`
// The bare server is made of system calls.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corio::IoContext;
use corio::net::{TcpListener, TcpStream};
use support::{Sample, effort, is_measurement, paired, pin, thread_cpu};

fn measure(
    file: &Arc<File>,
    size: u64,
    connections: usize,
    length: Duration,
    server: impl FnOnce(StdListener, Arc<File>, u64) + Send + 'static,
) -> Sample {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    // Accepted connections inherit both options.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
    support::control_congestion(&listener);
    let address = listener.local_addr().unwrap();
    let (cpu_out, cpu_in) = mpsc::channel();
    let file = file.clone();
    let serving = thread::spawn(move || {
        pin(0);
        let before = thread_cpu();
        server(listener, file, size);
        cpu_out.send(thread_cpu() - before).unwrap();
    });
    pin(1);
    let (count, wall) = client(address, size, connections, length);
    let cpu = cpu_in.recv().unwrap();
    serving.join().unwrap();
    Sample::new(count, wall, cpu)
}

/// A closed loop over all connections, by `poll(2)`.
fn client(address: SocketAddr, size: u64, connections: usize, length: Duration) -> (u64, Duration) {
    let streams: Vec<StdStream> =
        (0..connections).map(|_| StdStream::connect(address).unwrap()).collect();
    let mut left = vec![size; connections];
    let mut polled: Vec<libc::pollfd> = streams
        .iter()
        .map(|stream| {
            stream.set_nodelay(true).unwrap();
            support::control_congestion(stream);
            libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 }
        })
        .collect();
    let start = Instant::now();
    for stream in &streams {
        (&*stream).write_all(&[1]).unwrap();
    }
    let (mut count, mut busy) = (0, connections);
    while busy > 0 {
        // SAFETY: the array is as long as said.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, -1) };
        for (index, poll) in polled.iter_mut().enumerate() {
            if poll.revents == 0 {
                continue;
            }
            let most = left[index].min(1 << 22) as usize;
            // SAFETY: with MSG_TRUNC the kernel writes nothing to a TCP receiver's buffer.
            let got = unsafe {
                libc::recv(
                    poll.fd,
                    std::ptr::null_mut(),
                    most,
                    libc::MSG_TRUNC | libc::MSG_DONTWAIT,
                )
            };
            assert!(got > 0, "the server broke off");
            left[index] -= got as u64;
            if left[index] > 0 {
                continue;
            }
            count += 1;
            if start.elapsed() < length {
                left[index] = size;
                (&streams[index]).write_all(&[1]).unwrap();
            } else {
                busy -= 1;
                poll.fd = -1;
            }
        }
    }
    (count, start.elapsed())
}

/// The server on corio, written as a user would write it.
fn corio_server(listener: StdListener, file: Arc<File>, size: u64) {
    let file = corio::fs::File::from(file.try_clone().unwrap());
    let file = std::rc::Rc::new(file);
    let mut context = IoContext::new(256).unwrap();
    context.block_on(async move {
        let listener = TcpListener::from(listener);
        let (first, _) = listener.accept().await.unwrap();
        let first = corio::spawn(serve(first, file.clone(), size));
        corio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                corio::spawn(serve(stream, file.clone(), size));
            }
        });
        first.await.unwrap();
    });
}

async fn serve(stream: TcpStream, file: std::rc::Rc<corio::fs::File>, size: u64) {
    let mut buf = Vec::with_capacity(64);
    loop {
        let (result, filled) = stream.recv(buf).await;
        if result.is_err() || filled.is_empty() {
            return;
        }
        if stream.send_file(&*file, 0, size).await.is_err() {
            return;
        }
        buf = filled;
    }
}

/// An alternative to `AsyncSendfile`: one send from a mapping of the file, which here is made only
/// once; a real server could not do that.
fn mapping_server(listener: StdListener, file: Arc<File>, _size: u64) {
    // SAFETY: nothing changes the file while this program runs.
    let mapping = unsafe { memmap2::MmapOptions::new().populate().map(&*file) }.unwrap();
    let bytes: &'static [u8] = Box::leak(Box::new(mapping));
    let mut context = IoContext::new(256).unwrap();
    context.block_on(async move {
        let listener = TcpListener::from(listener);
        let (first, _) = listener.accept().await.unwrap();
        let first = corio::spawn(serve_bytes(first, bytes));
        corio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                corio::spawn(serve_bytes(stream, bytes));
            }
        });
        first.await.unwrap();
    });
    // SAFETY: leaked above; the context is gone, so nothing uses the bytes any more.
    unsafe { libc::munmap(bytes.as_ptr().cast_mut().cast(), bytes.len()) };
}

async fn serve_bytes(stream: TcpStream, bytes: &'static [u8]) {
    let mut buf = Vec::with_capacity(64);
    loop {
        let (result, filled) = stream.recv(buf).await;
        if result.is_err() || filled.is_empty() || stream.send_all(bytes).await.0.is_err() {
            return;
        }
        buf = filled;
    }
}

/// The same server as a bare loop on epoll.
fn bare_server(listener: StdListener, file: Arc<File>, size: u64) {
    struct Connection {
        stream: StdStream,
        /// How many bytes of the file have been sent, while one is being sent.
        sent: Option<u64>,
        waits_for_room: bool,
    }
    let epoll = Epoll::new();
    epoll.add(listener.as_raw_fd(), u64::MAX, libc::EPOLLIN);
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        for (key, _) in epoll.wait() {
            if key == u64::MAX {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                stream.set_nodelay(true).unwrap();
                epoll.add(stream.as_raw_fd(), connections.len() as u64, libc::EPOLLIN);
                connections.push(Connection { stream, sent: None, waits_for_room: false });
                continue;
            }
            let connection = &mut connections[key as usize];
            let fd = connection.stream.as_raw_fd();
            if connection.sent.is_none() {
                match connection.stream.read(&mut [0; 64]) {
                    Ok(1..) => connection.sent = Some(0),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Ok(0) | Err(_) => return,
                }
            }
            while let Some(sent) = connection.sent {
                let mut offset = sent as i64;
                let most = (size - sent).min(1 << 20) as usize;
                // SAFETY: `offset` is a valid place for the kernel to update.
                let went = unsafe { libc::sendfile(fd, file.as_raw_fd(), &mut offset, most) };
                if went < 0 {
                    assert_eq!(
                        std::io::Error::last_os_error().kind(),
                        std::io::ErrorKind::WouldBlock
                    );
                    if !connection.waits_for_room {
                        connection.waits_for_room = true;
                        epoll.change(fd, key, libc::EPOLLOUT);
                    }
                    break;
                }
                let sent = sent + went as u64;
                connection.sent = (sent < size).then_some(sent);
                if connection.sent.is_none() && connection.waits_for_room {
                    connection.waits_for_room = false;
                    epoll.change(fd, key, libc::EPOLLIN);
                }
            }
        }
    }
}

struct Epoll(RawFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: passes no memory.
        Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }

    fn control(&self, op: i32, fd: RawFd, key: u64, events: i32) {
        let mut event = libc::epoll_event { events: events as u32, u64: key };
        // SAFETY: `event` is valid for the call.
        assert_eq!(unsafe { libc::epoll_ctl(self.0, op, fd, &mut event) }, 0);
    }

    fn add(&self, fd: RawFd, key: u64, events: i32) {
        self.control(libc::EPOLL_CTL_ADD, fd, key, events);
    }

    fn change(&self, fd: RawFd, key: u64, events: i32) {
        self.control(libc::EPOLL_CTL_MOD, fd, key, events);
    }

    fn wait(&self) -> Vec<(u64, u32)> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the array is as long as said.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), 64, -1) };
        events[..count.max(0) as usize].iter().map(|event| (event.u64, event.events)).collect()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: an fd of our own.
        unsafe { libc::close(self.0) };
    }
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let (rounds, length) = effort();
    println!("ratios to the bare loop: median (least to most) of {rounds} rounds");
    let big = if is_measurement() { 1 << 30 } else { 1 << 24 };
    for (text, size, connections) in
        [("4 KiB", 4 << 10, 10), ("1 MiB", 1 << 20, 10), ("1 GiB", big, 1)]
    {
        let name = format!("sendfile {text}, {connections} conn.");
        if !name.contains(&filter) {
            continue;
        }
        let mut file = tempfile::tempfile().unwrap();
        let block = vec![0x5a; 1 << 20];
        let mut left = size;
        while left > 0 {
            let part = left.min(1 << 20);
            file.write_all(&block[..part as usize]).unwrap();
            left -= part;
        }
        let file = Arc::new(file);
        let bare = || measure(&file, size, connections, length, bare_server);
        let ours = || measure(&file, size, connections, length, corio_server);
        paired(&name, rounds, ours, bare);
        let mapping = || measure(&file, size, connections, length, mapping_server);
        paired("  send from a mapping", rounds, mapping, bare);
    }
}
