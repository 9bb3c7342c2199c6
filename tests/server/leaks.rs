//! File descriptors, threads and mappings after a server has stopped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use corio::server::{Balance, Server, Workers};

use crate::harness::{Driver, alone, open_fds, threads};

/// Fds, threads, and mappings of rings.
fn counts() -> (usize, usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rings = maps.lines().filter(|line| line.contains("io_uring")).count();
    (open_fds(), threads(), rings)
}

fn serve_and_stop(driver: Driver, balance: Balance, connections: u64) {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(Workers::builder().count(2).context(driver.builder()))
        .balance(balance)
        .max_connections_per_peer(100)
        .start(
            |_| (),
            |stream, _| async move {
                let (result, buf) = stream.recv_exact([0; 4]).await;
                result?;
                stream.send_all(buf).await.0?;
                Ok(())
            },
        )
        .unwrap();
    let to = server.addresses()[0].as_inet().unwrap();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..connections / 2 {
                    let mut stream = TcpStream::connect(to).unwrap();
                    stream.write_all(b"ping").unwrap();
                    let mut back = [0; 4];
                    stream.read_exact(&mut back).unwrap();
                    // Reset, so that no port is kept back.
                    let socket = socket2::SockRef::from(&stream);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.stop();
    let totals = server.join();
    assert_eq!((totals.accepted, totals.active()), (connections, 0), "{totals:?}");
}

#[test]
fn a_server_leaves_no_fd_thread_or_mapping_after_20_000_connections() {
    alone(|| {
        // What the standard library and the kernel set up once.
        serve_and_stop(Driver::Readiness, Balance::ReusePort, 2);
        let before = counts();
        for driver in [Driver::IoUring, Driver::Readiness] {
            if !driver.is_here() {
                continue;
            }
            serve_and_stop(driver, Balance::ReusePort, 10_000);
            serve_and_stop(driver, Balance::LeastLoaded, 10_000);
            // The kernel takes a ring's mappings down, and a thread off the list, in its own time:
            // `before` may count a thread that had ended, too.
            let no_more = |(fds, threads, rings): (usize, usize, usize)| {
                fds <= before.0 && threads <= before.1 && rings <= before.2
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            while !no_more(counts()) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(no_more(counts()), "{driver:?}: {:?}, {before:?} before", counts());
        }
    });
}
