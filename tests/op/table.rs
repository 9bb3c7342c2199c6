//! A table: each operation on each kind of file gives what the system call of its name gives.

// # Why this file has `unsafe`
// It makes the system calls to compare with, and files that std has no function for.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use corio::net::SocketAddress;
use corio::op::*;

use crate::harness::{Case, Driver, Outcome, make_fifo, set_blocking, set_nonblocking};

every_driver! {
    cases:
    an_operation_gives_what_its_system_call_gives_on_any_file,
}

/// What a call gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    Count(usize),
    Errno(i32),
    /// It would wait.
    Waits,
}

/// What a file has for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Empty,
    /// Nothing, and its peer is gone.
    HungUp,
}

const STATES: [State; 3] = [State::Ready, State::Empty, State::HungUp];

const KINDS: [&str; 20] = [
    "regular file",
    "O_DIRECT",
    "directory",
    "FIFO",
    "pipe to read",
    "pipe to write",
    "TCP",
    "TCP listener",
    "UDP",
    "Unix stream",
    "Unix datagram",
    "Unix seqpacket",
    "pty",
    "eventfd",
    "timerfd",
    "inotify",
    "memfd",
    "/dev/null",
    "/proc/version",
    "closed fd",
];

const OPERATIONS: [&str; 20] = [
    "pread",
    "pwrite",
    "read",
    "write",
    "readv",
    "writev",
    "recv",
    "send",
    "recvmsg",
    "sendmsg",
    "fsync",
    "ftruncate",
    "fallocate",
    "statx",
    "accept",
    "connect",
    "shutdown",
    "poll",
    "sendfile",
    "splice",
];

/// Bytes that are read or written.
const LEN: usize = 16;
const TEXT: [u8; LEN] = [7; LEN];

/// A file to try a call on, and what must stay open meanwhile.
struct Fixture {
    fd: OwnedFd,
    _others: Vec<OwnedFd>,
}

/// Takes over what a system call has made.
fn made(fd: RawFd) -> io::Result<OwnedFd> {
    match fd {
        // SAFETY: the call has just made it, and nothing else owns it.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn socket_pair(kind: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socket2::Socket::pair(socket2::Domain::UNIX, kind.into(), None)?;
    Ok((a.into(), b.into()))
}

fn send(file: &OwnedFd) -> io::Result<()> {
    File::from(file.try_clone()?).write_all(&TEXT)
}

impl Fixture {
    /// A fresh file of a kind, in a state where it has one.
    fn new(kind: &str, state: State, dir: &Path, number: usize) -> io::Result<Fixture> {
        let path = dir.join(number.to_string());
        let ready = state == State::Ready;
        let mut others = Vec::new();
        // The other end, of which there is one, can be sent from.
        let mut peer = false;
        let regular = |flags: i32| -> io::Result<OwnedFd> {
            std::fs::write(&path, [1; 8192])?;
            let file = File::options().read(true).write(true).custom_flags(flags).open(&path)?;
            Ok(file.into())
        };
        let fd: OwnedFd = match kind {
            "regular file" => regular(0)?,
            "O_DIRECT" => regular(libc::O_DIRECT)?,
            "directory" => File::open(dir)?.into(),
            "FIFO" => {
                make_fifo(&path)?;
                let fifo = File::options().read(true).write(true).open(&path)?.into();
                if ready {
                    send(&fifo)?;
                }
                fifo
            }
            "pipe to read" => {
                let (reader, writer) = std::io::pipe()?;
                others.push(writer.into());
                peer = true;
                reader.into()
            }
            "pipe to write" => {
                let (reader, writer) = std::io::pipe()?;
                others.push(reader.into());
                writer.into()
            }
            "TCP" => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let stream = TcpStream::connect(listener.local_addr()?)?;
                others.push(listener.accept()?.0.into());
                peer = true;
                stream.into()
            }
            "TCP listener" => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                if ready {
                    others.push(TcpStream::connect(listener.local_addr()?)?.into());
                }
                listener.into()
            }
            "UDP" => {
                let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
                a.connect(b.local_addr()?)?;
                b.connect(a.local_addr()?)?;
                others.push(b.into());
                peer = true;
                a.into()
            }
            "Unix stream" | "Unix datagram" | "Unix seqpacket" => {
                let (a, b) = match kind {
                    "Unix stream" => UnixStream::pair().map(|(a, b)| (a.into(), b.into()))?,
                    "Unix datagram" => UnixDatagram::pair().map(|(a, b)| (a.into(), b.into()))?,
                    _ => socket_pair(libc::SOCK_SEQPACKET)?,
                };
                others.push(b);
                peer = true;
                a
            }
            // SAFETY: `name` is as long as its length says, and gets a final NUL.
            "pty" => unsafe {
                let pty = made(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY))?;
                libc::grantpt(pty.as_raw_fd());
                libc::unlockpt(pty.as_raw_fd());
                let mut name = [0; 64];
                libc::ptsname_r(pty.as_raw_fd(), name.as_mut_ptr(), name.len());
                let other = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
                others.push(made(other)?);
                peer = true;
                pty
            },
            // SAFETY: passes no memory.
            "eventfd" => made(unsafe { libc::eventfd(if ready { 3 } else { 0 }, 0) })?,
            // SAFETY: times are integers, so zeros are valid; the old ones have no place; one entry
            // is polled.
            "timerfd" => unsafe {
                let timer = made(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0))?;
                let mut at: libc::itimerspec = std::mem::zeroed();
                at.it_value.tv_nsec = ready.into();
                libc::timerfd_settime(timer.as_raw_fd(), 0, &at, std::ptr::null_mut());
                if ready {
                    // Slow machines take a while to notice that it has expired.
                    let fd = timer.as_raw_fd();
                    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                    assert_eq!(libc::poll(&mut poll, 1, 20_000), 1, "it expires at once");
                }
                timer
            },
            "inotify" => {
                let watched = dir.join(format!("watched {number}"));
                std::fs::create_dir(&watched)?;
                let inotify = crate::harness::watch(&watched)?;
                if ready {
                    std::fs::write(watched.join("new"), "")?;
                }
                inotify
            }
            "memfd" => {
                // SAFETY: the name ends with a NUL.
                let memory = made(unsafe { libc::memfd_create(c"table".as_ptr(), 0) })?;
                File::from(memory.try_clone()?).set_len(8192)?;
                memory
            }
            "/dev/null" => File::options().read(true).write(true).open("/dev/null")?.into(),
            "/proc/version" => File::open(kind)?.into(),
            kind => unreachable!("{kind}"),
        };
        if ready && peer {
            send(&others[0])?;
        }
        if state == State::HungUp {
            others.clear();
        }
        Ok(Fixture { fd, _others: others })
    }
}

/// What an operation needs beside its file.
struct Tools {
    /// A file to send from.
    file: File,
    /// A pipe to splice into.
    pipe: (io::PipeReader, io::PipeWriter),
    /// Where to connect to.
    listener: TcpListener,
}

impl Tools {
    fn new() -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&TEXT)?;
        Ok(Tools { file, pipe: std::io::pipe()?, listener: TcpListener::bind("127.0.0.1:0")? })
    }
}

/// What the system call gives on a file, which is in non-blocking mode.
fn by_system_call(operation: &str, fd: RawFd, tools: &Tools) -> Gives {
    let mut buf = TEXT;
    let (ptr, len) = (buf.as_mut_ptr().cast::<libc::c_void>(), LEN);
    let mut iov = libc::iovec { iov_base: ptr, iov_len: len };
    let std::net::SocketAddr::V4(address) = tools.listener.local_addr().expect("it is bound")
    else {
        unreachable!("it is bound to an address of version 4")
    };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    };
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: all memory is valid for what the calls do with it, with the lengths given; the offset
    // of `sendfile` and the structures start out initialised.
    let result = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
        let mut stat: libc::statx = std::mem::zeroed();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
        let result = match operation {
            "read" => libc::read(fd, ptr, len),
            "write" => libc::write(fd, ptr, len),
            // The operations do as these where a file has no positions.
            "pread" => match libc::pread(fd, ptr, len, 0) {
                -1 if has_no_positions() => libc::read(fd, ptr, len),
                result => result,
            },
            "pwrite" => match libc::pwrite(fd, ptr, len, 0) {
                -1 if has_no_positions() => libc::write(fd, ptr, len),
                result => result,
            },
            "readv" => libc::readv(fd, &iov, 1),
            "writev" => libc::writev(fd, &iov, 1),
            "recv" => libc::recv(fd, ptr, len, 0),
            "send" => libc::send(fd, ptr, len, libc::MSG_NOSIGNAL),
            "recvmsg" => libc::recvmsg(fd, &mut message, 0),
            "sendmsg" => libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL),
            "fsync" => libc::fsync(fd) as isize,
            "ftruncate" => libc::ftruncate(fd, 100) as isize,
            "fallocate" => libc::fallocate(fd, 0, 0, 100) as isize,
            "statx" => {
                let flags = libc::AT_EMPTY_PATH;
                libc::statx(fd, c"".as_ptr(), flags, libc::STATX_BASIC_STATS, &mut stat) as isize
            }
            "accept" => match libc::accept4(fd, none.cast(), none.cast(), libc::SOCK_CLOEXEC) {
                fd @ 0.. => libc::close(fd) as isize,
                error => error as isize,
            },
            "connect" => {
                let len = size_of::<libc::sockaddr_in>() as u32;
                libc::connect(fd, (&raw const name).cast(), len) as isize
            }
            "shutdown" => libc::shutdown(fd, libc::SHUT_WR) as isize,
            "poll" => match libc::poll(&mut poll, 1, 0) {
                1 if poll.revents & libc::POLLNVAL != 0 => return Gives::Errno(libc::EBADF),
                1 => poll.revents as isize,
                0 => return Gives::Waits,
                error => error as isize,
            },
            "sendfile" => {
                let mut offset = 0;
                libc::sendfile(fd, tools.file.as_raw_fd(), &mut offset, len)
            }
            "splice" => {
                let pipe = tools.pipe.1.as_raw_fd();
                libc::splice(fd, none.cast(), pipe, none.cast(), len, libc::SPLICE_F_NONBLOCK)
            }
            operation => unreachable!("{operation}"),
        };
        (result < 0).then(io::Error::last_os_error).map_or(Ok(result as usize), Err)
    };
    given(result)
}

/// Before Linux 6.10 the ring waits until a timer can be written to, which is never.
fn waits_for_ever(case: Case, operation: &str, kind: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    kind == "timerfd"
        && ["pwrite", "write", "writev"].contains(&operation)
        && case.driver == Driver::IoUring
        && version < (6, 10)
}

fn has_no_positions() -> bool {
    io::Error::last_os_error().raw_os_error() == Some(libc::ESPIPE)
}

fn given(result: io::Result<usize>) -> Gives {
    match result {
        Ok(count) => Gives::Count(count),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Gives::Waits,
        Err(error) => {
            let cause = Incomplete::of(&error).and_then(|whole| whole.cause.as_ref());
            match cause.unwrap_or(&error).raw_os_error() {
                Some(libc::EAGAIN | libc::EINPROGRESS) => Gives::Waits,
                Some(errno) => Gives::Errno(errno),
                None => panic!("an error without a number: {error:?}"),
            }
        }
    }
}

/// What this crate's operation gives on a file.
async fn by_operation(
    operation: &str,
    fd: BorrowedFd<'_>,
    tools: &Tools,
    limit: Duration,
) -> Gives {
    let room = || TEXT;
    let result = match operation {
        "read" => AsyncRead::at_position(fd, room()).with_timeout(limit).await.0,
        "write" => AsyncWrite::at_position(fd, TEXT).with_timeout(limit).await.0,
        "pread" => AsyncRead::new(fd, room(), 0).with_timeout(limit).await.0,
        "pwrite" => AsyncWrite::new(fd, TEXT, 0).with_timeout(limit).await.0,
        "readv" => AsyncReadv::new(fd, [room()], 0).with_timeout(limit).await.0,
        "writev" => AsyncWritev::new(fd, [TEXT], 0).with_timeout(limit).await.0,
        "recv" => AsyncRecv::new(fd, room()).with_timeout(limit).await.0,
        "send" => AsyncSend::new(fd, TEXT).with_timeout(limit).await.0,
        "recvmsg" => {
            let received = AsyncRecvmsg::new(fd, [room()]).with_timeout(limit).await.0;
            received.map(|received| received.len)
        }
        "sendmsg" => AsyncSendmsg::new(fd, [TEXT]).with_timeout(limit).await.0,
        "fsync" => AsyncFsync::new(fd).await.map(|()| 0),
        "ftruncate" => AsyncFtruncate::new(fd, 100).await.map(|()| 0),
        "fallocate" => AsyncFallocate::new(fd, 0, 0, 100).await.map(|()| 0),
        "statx" => AsyncStatx::file(fd).await.map(|_| 0),
        "accept" => AsyncAccept::new(fd).with_timeout(limit).await.map(|_| 0),
        "connect" => {
            let to: SocketAddress = tools.listener.local_addr().expect("it is bound").into();
            AsyncConnect::new(fd, to).with_timeout(limit).await.map(|()| 0)
        }
        "shutdown" => AsyncShutdown::new(fd, Shutdown::Write).await.map(|()| 0),
        "poll" => {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let ready = AsyncPoll::new(fd, interest).with_timeout(limit).await;
            ready.map(|ready| ready.bits() as usize)
        }
        "sendfile" => {
            let sent = AsyncSendfile::new(fd, &tools.file, 0, LEN as u64).with_timeout(limit).await;
            sent.map(|()| LEN)
        }
        "splice" => AsyncSplice::into_pipe(fd, &tools.pipe.1, LEN).with_timeout(limit).await,
        operation => unreachable!("{operation}"),
    };
    given(result)
}

fn an_operation_gives_what_its_system_call_gives_on_any_file(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mut context = case.context();
    let mut different = Vec::new();
    let mut number = 0;
    for operation in OPERATIONS {
        let cases = KINDS.iter().flat_map(|&kind| STATES.map(|state| (kind, state)));
        'cases: for (kind, state) in cases {
            if waits_for_ever(case, operation, kind) {
                continue;
            }
            let mut gives = Vec::new();
            for way in 0..3 {
                number += 1;
                let tools = Tools::new()?;
                let fixture = match kind {
                    "closed fd" => None,
                    kind => match Fixture::new(kind, state, dir.path(), number) {
                        Ok(fixture) => Some(fixture),
                        // What a host may lack.
                        Err(error) if ["O_DIRECT", "pty"].contains(&kind) => {
                            eprintln!("left out: {kind}: {error}");
                            continue 'cases;
                        }
                        Err(error) => return Err(format!("{kind}: {error}").into()),
                    },
                };
                if let Some(Fixture { fd, .. }) = &fixture {
                    if way == 1 { set_blocking(fd) } else { set_nonblocking(fd) }
                }
                const CLOSED: RawFd = RawFd::MAX / 2;
                let raw = fixture.as_ref().map_or(CLOSED, |fixture| fixture.fd.as_raw_fd());
                gives.push(match way {
                    0 => by_system_call(operation, raw, &tools),
                    _ => {
                        // What does not wait has all the time that a busy machine takes.
                        let limit = match gives[0] {
                            Gives::Waits => Duration::from_millis(5),
                            _ => Duration::from_secs(20),
                        };
                        // SAFETY: the fixture keeps it open; the closed one is what the test is
                        // about, and is above all numbers that are in use.
                        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
                        context.block_on(by_operation(operation, fd, &tools, limit))
                    }
                });
            }
            if gives.iter().any(|&one| one != gives[0]) {
                different.push(format!("{operation} on {kind}, {state:?}: {gives:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}
