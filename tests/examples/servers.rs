//! The proxy, the chat, the acceptor and the UDP echo on each driver, with several workers; and the
//! hand-over of sockets to a new server.

// # Why this file has `unsafe`
// It passes a socket to a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::process::{Finished, GUARD, Running, example, finish, ignores_hangup};

/// The drivers that every host of these tests has; `auto` is one of them.
pub(crate) const DRIVERS: [&str; 2] = ["auto", "readiness"];

pub(crate) struct Server {
    process: Running,
    address: SocketAddr,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(name: &str, driver: &str, arguments: &[&str]) -> Self {
        Self::by(example(name), driver, arguments)
    }

    /// The same by another command, which is given the same arguments.
    #[track_caller]
    pub(crate) fn by(mut command: Command, driver: &str, arguments: &[&str]) -> Self {
        command.args(["--addr", "127.0.0.1:0", "--workers", "2", "--driver", driver]);
        let process = Running::start(command.args(arguments));
        let line = process.line();
        let address = line.strip_prefix("listening on ").and_then(|text| text.parse().ok());
        Server { process, address: address.unwrap_or_else(|| panic!("no address in {line:?}")) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.set_write_timeout(Some(GUARD)).unwrap();
        stream
    }

    #[track_caller]
    pub(crate) fn end(self) -> Finished {
        self.process.signal("TERM");
        let end = self.process.finish();
        assert_eq!(end.status.code(), Some(0), "{end:?}");
        end
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// Sends everything, shuts its side down, and returns what arrives until the other side ends.
fn exchange(mut stream: TcpStream, sent: Vec<u8>) -> Vec<u8> {
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    sending.join().unwrap();
    received
}

#[test]
fn a_proxy_passes_everything_in_both_directions() {
    for driver in DRIVERS {
        const LEN: usize = 32 << 20;
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &to]);
        let client = proxy.connect();
        let there = thread::spawn(move || exchange(client, noise(1, LEN)));
        let (accepted, _) = upstream.accept().unwrap();
        assert!(exchange(accepted, noise(2, LEN)) == noise(1, LEN), "{driver}: client to upstream");
        assert!(there.join().unwrap() == noise(2, LEN), "{driver}: upstream to client");
        let end = proxy.end();
        assert_eq!(end.stderr, "");
    }
}

#[test]
fn a_proxy_passes_the_end_of_each_side_on_by_itself() {
    for driver in DRIVERS {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &to, "--log"]);
        for client_first in [true, false] {
            let client = proxy.connect();
            let (accepted, _) = upstream.accept().unwrap();
            let (mut first, mut second) =
                if client_first { (client, accepted) } else { (accepted, client) };
            first.write_all(b"my last word").unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            second.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "my last word");
            // The other direction goes on.
            for _ in 0..10 {
                second.write_all(b"still here").unwrap();
                let mut back = [0; 10];
                first.read_exact(&mut back).unwrap();
            }
            drop(second);
            assert_eq!(first.read(&mut [0]).unwrap(), 0);
        }
        assert!(proxy.process.error_line().contains("12 bytes sent, 100 received"));
        assert!(proxy.process.error_line().contains("100 bytes sent, 12 received"));
        proxy.end();
    }
}

#[test]
fn a_proxy_serves_200_at_once() {
    for driver in DRIVERS {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &to]);
        let echo = thread::spawn(move || {
            let mut all: Vec<_> = (0..200).map(|_| upstream.accept().unwrap().0).collect();
            for stream in &mut all {
                let mut word = [0; 8];
                stream.read_exact(&mut word).unwrap();
                stream.write_all(&word).unwrap();
            }
        });
        let mut clients: Vec<_> = (0..200).map(|_| proxy.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(format!("{number:8}").as_bytes()).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut word = [0; 8];
            client.read_exact(&mut word).unwrap();
            assert_eq!(word, format!("{number:8}").as_bytes());
        }
        echo.join().unwrap();
        drop(clients);
        proxy.end();
    }
}

#[test]
fn a_proxy_tells_of_an_upstream_that_fails() {
    for driver in DRIVERS {
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &refusing]);
        let mut client = proxy.connect();
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        assert!(proxy.process.error_line().contains("refused"));
        proxy.end();

        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let proxy = Server::start("tcp_proxy", driver, &["--to", &to]);
        let mut client = proxy.connect();
        let (mut accepted, _) = upstream.accept().unwrap();
        client.write_all(b"hello").unwrap();
        // Else the proxy might see the reset in a send, and the end of the stream in a receive.
        accepted.read_exact(&mut [0; 5]).unwrap();
        socket2::SockRef::from(&accepted).set_linger(Some(Duration::ZERO)).unwrap();
        drop(accepted);
        assert!(client.read(&mut [0]).is_err(), "the client sees the reset");
        assert!(proxy.process.error_line().contains("reset by peer"));
        proxy.end();
    }
}

#[test]
fn a_proxy_lets_go_of_a_client_whose_upstream_has_ended() {
    for driver in DRIVERS {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let arguments = ["--to", &to, "--after-upstream", "0.02", "--log"];
        let proxy = Server::start("tcp_proxy", driver, &arguments);
        let mut client = proxy.connect();
        drop(upstream.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end of the upstream");
        // The client stays, and says nothing.
        let line = proxy.process.error_line();
        assert!(line.contains("time limit of 20 ms reached"), "{line}");
        proxy.end();
    }
}

#[test]
fn a_room_hears_what_is_said_in_it() {
    for driver in DRIVERS {
        let server = Server::start("chat", driver, &[]);
        let join = |room: &str| {
            let mut stream = server.connect();
            writeln!(stream, "{room}").unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            (stream, reader)
        };
        let mut red: Vec<_> = (0..8).map(|_| join("red")).collect();
        let mut blue: Vec<_> = (0..8).map(|_| join("blue")).collect();
        // A client that is not in the room yet receives nothing: repeat until all have received it.
        for room in [&mut red, &mut blue] {
            let (speaker, others) = room.split_first_mut().unwrap();
            for (stream, reader) in others {
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                let mut line = String::new();
                for _ in 0..1000 {
                    speaker.0.write_all(b"hello\n").unwrap();
                    if reader.read_line(&mut line).is_ok() {
                        break;
                    }
                }
                assert_eq!(line, "hello\n");
                stream.set_read_timeout(Some(GUARD)).unwrap();
            }
        }
        red[0].0.write_all(b"red one\nred two\n").unwrap();
        blue[0].0.write_all(b"blue one\n").unwrap();
        for (room, expected) in [(&mut red, "red"), (&mut blue, "blue")] {
            for (_, reader) in &mut room[1..] {
                let line = reader.lines().map(Result::unwrap).find(|line| line != "hello");
                assert_eq!(line.unwrap(), format!("{expected} one"));
            }
        }
        let mut line = String::new();
        red[1].1.read_line(&mut line).unwrap();
        assert_eq!(line, "red two\n");
        // A client that sends a line without end is disconnected, and no other.
        let mut endless = server.connect();
        let _ = endless.write_all(&vec![b'x'; 1 << 20]);
        assert!(matches!(endless.read(&mut [0]), Ok(0) | Err(_)));
        red[0].0.write_all(b"still here\n").unwrap();
        line.clear();
        red[1].1.read_line(&mut line).unwrap();
        assert_eq!(line, "still here\n");
        server.end();
    }
}

/// Joins a room, and waits until the other members' lines arrive. `voice` is a member that speaks.
fn listener(server: &Server, voice: &mut TcpStream) -> BufReader<TcpStream> {
    let mut stream = server.connect();
    stream.write_all(b"room\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    for _ in 0..1000 {
        voice.write_all(b"hello\n").unwrap();
        if reader.read_line(&mut line).is_ok() {
            break;
        }
    }
    assert_eq!(line, "hello\n");
    reader.get_ref().set_read_timeout(Some(GUARD)).unwrap();
    reader
}

#[test]
fn a_member_that_reads_hears_all_of_a_long_paste() {
    for driver in DRIVERS {
        let server = Server::start("chat", driver, &["--patience", "never"]);
        let mut speaker = server.connect();
        speaker.write_all(b"room\n").unwrap();
        let listeners: Vec<_> = (0..4).map(|_| listener(&server, &mut speaker)).collect();
        const LINES: usize = 30_000;
        let text = "x".repeat(200);
        let hearing: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let text = text.clone();
                thread::spawn(move || {
                    let mut lines = listener.lines().map(Result::unwrap);
                    for number in 0..LINES {
                        let line = lines.find(|line| line != "hello");
                        assert_eq!(line, Some(format!("{number} {text}")));
                    }
                })
            })
            .collect();
        let pasted = (0..LINES).map(|number| format!("{number} {text}\n")).collect::<String>();
        speaker.write_all(pasted.as_bytes()).unwrap();
        hearing.into_iter().for_each(|hearing| hearing.join().unwrap());
        server.end();
    }
}

#[test]
fn a_member_that_reads_nothing_is_removed_and_the_others_hear_all() {
    for driver in DRIVERS {
        let server = Server::start("chat", driver, &["--patience", "0.5"]);
        let mut speaker = server.connect();
        speaker.write_all(b"room\n").unwrap();
        let mut deaf = listener(&server, &mut speaker);
        let good = listener(&server, &mut speaker);
        // More than the buffers of all sockets on the way hold.
        const LINES: usize = 10_000;
        let hearing = thread::spawn(move || {
            let mut lines = good.lines().map(Result::unwrap);
            for number in 0..LINES {
                let line = lines.find(|line| line != "hello").expect("the connection was closed");
                assert!(line.starts_with(&format!("{number} ")), "{line:.20} instead of {number}");
            }
        });
        let text = "x".repeat(4000);
        for number in 0..LINES {
            writeln!(speaker, "{number} {text}").unwrap();
        }
        hearing.join().unwrap();
        // What had been sent before, and then the end.
        let mut lines = 0;
        let mut line = Vec::new();
        while matches!(deaf.read_until(b'\n', &mut line), Ok(1..)) {
            lines += 1;
            line.clear();
        }
        assert!(lines < LINES, "{lines} lines reached a member that read nothing");
        server.end();
    }
}

#[test]
fn an_acceptor_hands_connections_over() {
    for driver in DRIVERS {
        let server = Server::start("acceptor", driver, &[]);
        let clients: Vec<_> = (0..40)
            .map(|number| {
                let stream = server.connect();
                thread::spawn(move || {
                    let answer = exchange(stream, noise(number, number as usize * 1000));
                    assert_eq!(answer, format!("{} bytes\n", number * 1000).as_bytes());
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let end = server.end();
        let served = end.stdout.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok());
        let served: Vec<u32> = served.collect();
        assert_eq!((served.len(), served.iter().sum::<u32>()), (2, 40), "{end:?}");
        assert!(served.iter().all(|&each| each >= 5), "{served:?}");
    }
}

/// Occupies a server: sends more than the sockets' buffers hold, and receives nothing.
fn stuck_client(server: &Server) -> TcpStream {
    let mut client = server.connect();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block = vec![0; 1 << 20];
    let (mut sent, mut full) = (0, 0);
    // Once is not enough: the server may only have been slow.
    while full < 5 {
        match client.write(&block) {
            Ok(len) => (sent, full) = (sent + len, 0),
            Err(_) => full += 1,
        }
        assert!(sent < 64 << 20, "{sent} bytes were received from a client that receives nothing");
    }
    client
}

#[test]
fn a_stop_that_cuts_nothing_has_status_0() {
    for driver in DRIVERS {
        for signal in ["TERM", "INT", "HUP"] {
            if signal == "HUP" && ignores_hangup() {
                println!("left out: SIGHUP, which this process ignores");
                continue;
            }
            for name in ["echo_server", "chat", "acceptor", "udp_echo", "tcp_proxy", "file_server"]
            {
                // Neither port nor directory is used.
                let arguments = match name {
                    "tcp_proxy" => &["--to", "127.0.0.1:1"][..],
                    "file_server" => &["src"],
                    _ => &[],
                };
                let server = Server::start(name, driver, arguments);
                server.process.signal(signal);
                let end = server.process.finish();
                assert_eq!(end.status.code(), Some(0), "{name}, SIG{signal}: {end:?}");
                assert_eq!(end.stderr, "", "{name}, SIG{signal}");
            }
            // An idle client is no reason to wait, nor one to report.
            let server = Server::start("echo_server", driver, &["--grace", "never"]);
            let mut client = server.connect();
            client.write_all(b"hello").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            server.process.signal(signal);
            let end = server.process.finish();
            assert_eq!((end.status.code(), end.stderr.as_str()), (Some(0), ""));
        }
    }
}

#[test]
fn a_stop_that_cuts_a_connection_has_status_1_and_says_so() {
    for driver in DRIVERS {
        let echo = Server::start("echo_server", driver, &["--grace", "0.05"]);
        let stuck = [stuck_client(&echo), stuck_client(&echo)];
        echo.process.signal("TERM");
        let end = echo.process.finish();
        assert_eq!(end.status.code(), Some(1), "{end:?}");
        let line = "echo_server: 2 connections were cut when the grace period ended\n";
        assert_eq!(end.stderr, line);
        drop(stuck);

        let acceptor = Server::start("acceptor", driver, &["--grace", "0.05"]);
        let mut open = acceptor.connect();
        open.write_all(b"a part").unwrap();
        // It is accepted before this one, which is served.
        assert_eq!(exchange(acceptor.connect(), noise(1, 10)), b"10 bytes\n");
        acceptor.process.signal("TERM");
        let end = acceptor.process.finish();
        assert_eq!(end.status.code(), Some(1), "{end:?}");
        assert_eq!(end.stderr, "acceptor: 1 connection was cut when the grace period ended\n");
    }
}

#[test]
fn a_second_signal_ends_the_grace_period() {
    for driver in DRIVERS {
        for name in ["echo_server", "acceptor"] {
            let server = Server::start(name, driver, &["--grace", "never"]);
            let mut open = server.connect();
            let stuck = (name == "echo_server").then(|| stuck_client(&server));
            open.write_all(b"a part").unwrap();
            assert!(name == "echo_server" || exchange(server.connect(), Vec::new()).len() > 1);
            server.process.signal("TERM");
            // Signals that are not taken yet are one: the first one has been when the port closes.
            let closed = |_: &u32| TcpStream::connect(server.address).is_err();
            (0..20_000).inspect(|_| thread::sleep(Duration::from_millis(1))).find(closed).unwrap();
            if name == "echo_server" {
                // Nothing of this one is left to be sent, so it is not among those that are cut.
                open.read_to_end(&mut Vec::new()).unwrap();
            }
            server.process.signal("TERM");
            let end = server.process.finish();
            assert_eq!(end.status.code(), Some(1), "{name}: {end:?}");
            assert!(end.stderr.contains("1 connection was cut"), "{name}: {end:?}");
            drop(stuck);
        }
    }
}

#[test]
fn datagrams_come_back() {
    for driver in DRIVERS {
        let server = Server::start("udp_echo", driver, &[]);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(server.address).unwrap();
                socket.set_read_timeout(Some(GUARD)).unwrap();
                socket
            })
            .collect();
        for len in [0, 1, 1400, 60_000] {
            for (number, client) in clients.iter().enumerate() {
                let sent = noise(number as u64, len);
                client.send(&sent).unwrap();
                let mut buf = vec![0; 65_535];
                let received = client.recv(&mut buf).unwrap();
                assert!(buf[..received] == sent, "{driver}: {received} of {len}");
            }
        }
        server.end();
    }
}

#[test]
fn time_limits_that_are_absurd_mean_never() {
    for driver in DRIVERS {
        for absurd in ["never", "1e30", "99999999999999s", "inf"] {
            let limits = ["--idle", absurd, "--grace", absurd];
            let server = Server::start("echo_server", driver, &limits);
            let sent = noise(7, 1000);
            assert!(exchange(server.connect(), sent.clone()) == sent, "{driver}, {absurd}");
            server.end();
        }
    }
}

#[test]
fn servers_take_either_balance() {
    for driver in DRIVERS {
        for balance in ["reuse-port", "least-loaded"] {
            let server = Server::start("echo_server", driver, &["--balance", balance]);
            for number in 0..8 {
                let sent = noise(number, 1000);
                assert!(exchange(server.connect(), sent.clone()) == sent, "{driver}, {balance}");
            }
            server.end();
        }
    }
}

#[test]
fn a_driver_that_is_none_is_refused() {
    for name in ["echo_server", "udp_echo", "chat", "acceptor"] {
        let refused = finish(example(name).args(["--driver", "magic"]));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains("auto, uring or readiness"), "{refused:?}");
    }
}

/// Starts an echo server with `listener` as its fd 3, as systemd would.
#[cfg(unix)]
fn with_socket(listener: &TcpListener, pid: &str) -> Running {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let fd = listener.as_raw_fd();
    let mut command = Command::new("sh");
    let script = format!("LISTEN_FDS=1 LISTEN_PID={pid} exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(example("echo_server").get_program());
    command.args(["--addr", "127.0.0.1:0", "--workers", "2", "--grace", "60"]);
    // SAFETY: `dup2` is fine between fork and exec; it clears close-on-exec, unless the numbers are
    // the same.
    unsafe {
        command.pre_exec(move || {
            let result = match fd {
                3 => libc::fcntl(3, libc::F_SETFD, 0),
                fd => libc::dup2(fd, 3),
            };
            if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    Running::start(&mut command)
}

#[cfg(unix)]
#[test]
fn a_server_is_replaced_without_refusing_anybody() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let first = with_socket(&listener, "$$");
    assert_eq!(first.line(), format!("listening on {address}"));
    let (enough, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (enough, served) = (enough.clone(), served.clone());
            thread::spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(address).expect("a server listens");
                    stream.set_read_timeout(Some(GUARD)).unwrap();
                    stream.write_all(b"hello").unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut back = String::new();
                    stream.read_to_string(&mut back).expect("it is served");
                    assert_eq!(back, "hello");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let wait_for = |count: u64| {
        let target = served.load(Ordering::Relaxed) + count;
        while served.load(Ordering::Relaxed) < target {
            thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(50);
    let mut old = first;
    for _ in 0..3 {
        let new = with_socket(&listener, "$$");
        assert_eq!(new.line(), format!("listening on {address}"));
        wait_for(20);
        old.signal("TERM");
        assert_eq!(old.finish().status.code(), Some(0));
        wait_for(20);
        old = new;
    }
    enough.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    old.signal("TERM");
    assert_eq!(old.finish().status.code(), Some(0));
    // Sockets that are meant for another process are left alone.
    let other = with_socket(&listener, "1");
    assert_ne!(other.line(), format!("listening on {address}"));
}
