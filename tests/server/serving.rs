//! Connections: their limits, their handlers, and the listeners.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corio::server::{Balance, Server};
use corio::{Builder, RaceOutput, race, sleep, timeout};

use crate::harness::{LONG, address, ask, echo, eventually, server, two};

/// Whether the server has closed the connection.
fn is_closed(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

fn server_that_sleeps(builder: &Builder, total: Duration, idle: Duration) -> Server {
    let handler = |_stream, _| async {
        sleep(LONG).await;
        Ok(())
    };
    let server = server(builder).total_timeout(total).idle_timeout(idle);
    server.start(|_| (), handler).unwrap()
}

every_driver! {
    fn many_clients_are_served_at_once(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let server = server(&builder)
                .balance(balance)
                .start(|_| (), |stream, _| echo(stream))
                .unwrap();
            let to = address(&server);
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    thread::spawn(move || {
                        let mut streams: Vec<_> =
                            (0..25).map(|_| TcpStream::connect(to).unwrap()).collect();
                        for round in 0..10 {
                            for stream in &mut streams {
                                ask(stream, &format!("client {client} round {round}"));
                            }
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            eventually("all have ended", || server.totals().finished == 100);
            let stats = server.stats();
            server.stop();
            let totals = server.join();
            assert_eq!((totals.accepted, totals.started, totals.active()), (100, 100, 0));
            if balance == Balance::LeastLoaded {
                assert_eq!(stats[0].accepted, 100);
                assert!(stats.iter().all(|one| one.started >= 25), "{stats:?}");
            }
        }
    }

    fn connections_that_come_and_go_are_all_served(builder) {
        let server = server(&builder).start(|_| (), |stream, _| echo(stream)).unwrap();
        let to = address(&server);
        const EACH: u64 = 2500;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(move || {
                    for _ in 0..EACH {
                        let mut stream = TcpStream::connect(to).unwrap();
                        ask(&mut stream, "hi");
                        // No connection lingers on a port.
                        let socket = socket2::SockRef::from(&stream);
                        socket.set_linger(Some(Duration::ZERO)).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        eventually("all have ended", || server.totals().active() == 0);
        server.stop();
        let totals = server.join();
        assert_eq!(totals.started, 4 * EACH);
    }

    fn each_worker_has_its_state(builder) {
        let made = Arc::new(AtomicUsize::new(0));
        let makes = made.clone();
        let server = server(&builder)
            .start(
                move |worker| {
                    makes.fetch_add(1, Ordering::SeqCst);
                    std::cell::Cell::new(worker.index() * 1000)
                },
                |stream, ctx| async move {
                    ctx.state().set(ctx.state().get() + 1);
                    let text = format!("{} {}", ctx.worker().index(), ctx.state().get());
                    stream.send_all(text).await.0?;
                    Ok(())
                },
            )
            .unwrap();
        let mut seen = [0; 2];
        for _ in 0..50 {
            let mut text = String::new();
            TcpStream::connect(address(&server)).unwrap().read_to_string(&mut text).unwrap();
            let (worker, count) = text.split_once(' ').unwrap();
            let (worker, count): (usize, usize) = (worker.parse().unwrap(), count.parse().unwrap());
            seen[worker] += 1;
            assert_eq!(count, worker * 1000 + seen[worker]);
        }
        assert_eq!(made.load(Ordering::SeqCst), 2);
        server.stop();
        assert_eq!(server.join().finished, 50);
    }

    fn a_panic_or_error_ends_one_connection(builder) {
        let server = server(&builder)
            .start(
                |_| (),
                |stream, _| async move {
                    let (result, buf) = stream.recv([0; 1]).await;
                    assert!(result? == 1);
                    match buf[0] {
                        b'p' => panic!("a handler's trouble"),
                        b'e' => Err(std::io::Error::other("a handler's error")),
                        _ => stream.send_all("fine").await.0,
                    }
                },
            )
            .unwrap();
        let talk = |text: &str| {
            let mut stream = TcpStream::connect(address(&server)).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            let mut back = String::new();
            let _ = stream.read_to_string(&mut back);
            back
        };
        assert_eq!(talk("p"), "");
        assert_eq!(talk("e"), "");
        assert_eq!(talk("x"), "fine");
        eventually("counted", || server.totals().active() == 0);
        server.stop();
        let totals = server.join();
        assert_eq!((totals.panicked, totals.failed, totals.finished), (1, 1, 1));
    }

    fn a_limit_makes_connections_wait(builder) {
        let server = server(&builder)
            .max_connections(2)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let served: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = TcpStream::connect(address(&server)).unwrap();
                ask(&mut stream, "in");
                stream
            })
            .collect();
        let mut waiting: Vec<_> =
            (0..6).map(|_| TcpStream::connect(address(&server)).unwrap()).collect();
        for stream in &mut waiting {
            stream.write_all(b"hello").unwrap();
        }
        for _ in 0..50 {
            assert_eq!(server.totals().active(), 2);
            thread::sleep(Duration::from_micros(200));
        }
        drop(served);
        // All are served in the end, two at a time.
        let readers: Vec<_> = waiting
            .into_iter()
            .map(|mut stream| {
                thread::spawn(move || {
                    let mut back = [0; 5];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(&back, b"hello");
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        eventually("all have ended", || server.totals().finished == 8);
    }

    fn each_peer_has_its_own_limit_of_connections(builder) {
        let server = server(&builder)
            .max_connections_per_peer(3)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let mut streams: Vec<_> = (0..3)
            .map(|_| {
                let mut stream = TcpStream::connect(address(&server)).unwrap();
                ask(&mut stream, "in");
                stream
            })
            .collect();
        let refused = TcpStream::connect(address(&server)).unwrap();
        assert!(is_closed(&refused));
        streams.pop();
        eventually("one has gone", || server.totals().active() == 2);
        let mut again = TcpStream::connect(address(&server)).unwrap();
        ask(&mut again, "in");
        assert_eq!(server.totals().refused, 1);
    }

    fn a_connection_is_ended_after_its_total_time(builder) {
        let server = server(&builder)
            .total_timeout(Duration::from_millis(30))
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let stream = TcpStream::connect(address(&server)).unwrap();
        assert!(is_closed(&stream));
        eventually("counted", || server.totals().timed_out == 1);
    }

    fn a_connection_that_is_idle_is_ended(builder) {
        const LIMIT: Duration = Duration::from_millis(40);
        let server = server(&builder)
            .idle_timeout(LIMIT)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let began = Instant::now();
        let never_spoke = TcpStream::connect(address(&server)).unwrap();
        let mut fell_silent = TcpStream::connect(address(&server)).unwrap();
        ask(&mut fell_silent, "hello");
        for stream in [&never_spoke, &fell_silent] {
            assert!(is_closed(stream));
        }
        assert!(began.elapsed() >= LIMIT);
        eventually("counted", || server.totals().timed_out == 2);
    }

    fn a_connection_that_goes_on_slowly_is_not_idle(builder) {
        // Long enough for a client's thread that has to wait for a processor.
        const LIMIT: Duration = Duration::from_millis(800);
        let server = server(&builder)
            .idle_timeout(LIMIT)
            .start(
                |_| (),
                |stream, _| async move {
                    loop {
                        // Operations in a scope that has ended count as activity, too.
                        let recv = race(stream.recv([0; 1]), sleep(LONG));
                        let byte = match timeout(LONG, recv).await? {
                            RaceOutput::First((Ok(1), byte), _) => byte,
                            _ => return Ok(()),
                        };
                        timeout(LONG, stream.send_all(byte)).await?.0?;
                    }
                },
            )
            .unwrap();
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        let began = Instant::now();
        while began.elapsed() < LIMIT * 2 {
            ask(&mut stream, "x");
            thread::sleep(LIMIT / 16);
        }
        drop(stream);
        eventually("ended by itself", || server.totals().finished == 1);
        assert_eq!(server.totals().timed_out, 0);
    }

    /// Sends for which there is room complete inline.
    fn a_handler_that_sends_now_and_then_is_not_idle(builder) {
        const LIMIT: Duration = Duration::from_millis(800);
        let server = server(&builder)
            .idle_timeout(LIMIT)
            .start(
                |_| (),
                |stream, _| async move {
                    for _ in 0..32 {
                        sleep(LIMIT / 16).await;
                        stream.send_all("x").await.0?;
                    }
                    Ok(())
                },
            )
            .unwrap();
        let mut text = String::new();
        TcpStream::connect(address(&server)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 32);
    }

    /// The peer reads nothing: once the buffers are full, no byte moves.
    fn a_peer_that_reads_nothing_is_idle(builder) {
        let server = server(&builder)
            .idle_timeout(Duration::from_millis(40))
            .start(
                |_| (),
                |stream, _| async move {
                    loop {
                        stream.send_all(vec![b'x'; 1 << 16]).await.0?;
                    }
                },
            )
            .unwrap();
        let stream = TcpStream::connect(address(&server)).unwrap();
        eventually("counted", || server.totals().timed_out == 1);
        drop(stream);
    }

    /// A failed operation moves no byte, however often it is tried.
    fn failed_operations_do_not_count_as_activity(builder) {
        let server = server(&builder)
            .idle_timeout(Duration::from_millis(40))
            .start(
                |_| (),
                |stream, _| async move {
                    loop {
                        let recv = stream.recv([0; 1]).with_timeout(Duration::from_millis(1));
                        if recv.await.0.is_ok_and(|count| count == 0) {
                            return Ok(());
                        }
                    }
                },
            )
            .unwrap();
        let stream = TcpStream::connect(address(&server)).unwrap();
        assert!(is_closed(&stream));
        eventually("counted", || server.totals().timed_out == 1);
    }

    fn the_total_and_the_idle_limit_both_hold(builder) {
        let short = Duration::from_millis(20);
        for (total, idle) in [(LONG, short), (short, LONG)] {
            let server = server(&builder)
                .total_timeout(total)
                .idle_timeout(idle)
                .start(
                    |_| (),
                    |stream, _| async move {
                        // The handler ignores the limit's error and returns `Ok`.
                        let _ = stream.recv([0; 1]).await;
                        Ok(())
                    },
                )
                .unwrap();
            assert!(is_closed(&TcpStream::connect(address(&server)).unwrap()));
            eventually("counted", || server.totals().finished == 1);
            // A handler that never returns.
            let server = server_that_sleeps(&builder, total, idle);
            assert!(is_closed(&TcpStream::connect(address(&server)).unwrap()));
            eventually("counted", || server.totals().timed_out == 1);
        }
    }

    fn accepts_are_spaced(builder) {
        let server = server(&builder)
            .accepts_per_second(100_000.0)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        for _ in 0..200 {
            ask(&mut TcpStream::connect(address(&server)).unwrap(), "x");
        }
        server.stop();
        assert_eq!(server.join().started, 200);
    }

    #[cfg(unix)]
    fn tcp_and_unix_listeners_are_served_together(builder) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let third = inherited.local_addr().unwrap();
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let _ = std::fs::remove_file(&path);
            let server = Server::builder()
                .listen("127.0.0.1:0")
                .listen_unix(&path)
                .listen_on(inherited.try_clone().unwrap())
                .workers(two(&builder))
                .balance(balance)
                .start(
                    |_| (),
                    |stream, ctx| async move {
                        stream.send_all(ctx.listener().to_string()).await.0?;
                        Ok(())
                    },
                )
                .unwrap();
            let read = |mut stream: Box<dyn Read>| {
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                text
            };
            for _ in 0..5 {
                let tcp = TcpStream::connect(address(&server)).unwrap();
                assert_eq!(read(Box::new(tcp)), "0");
                let unix = std::os::unix::net::UnixStream::connect(&path).unwrap();
                assert_eq!(read(Box::new(unix)), "1");
                assert_eq!(read(Box::new(TcpStream::connect(third).unwrap())), "2");
            }
            assert_eq!(server.addresses()[1].as_path(), Some(&*path));
            server.stop();
            server.join();
        }
    }

    fn an_address_that_cannot_be_bound_is_reported(builder) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let start = |builder: corio::server::ServerBuilder| {
            builder.start(|_| (), |stream, _| echo(stream)).unwrap_err().to_string()
        };
        let address = taken.local_addr().unwrap();
        let error = start(Server::builder().listen(address).workers(two(&builder)));
        let named = error.contains(&address.to_string());
        assert!(named && error.contains("can't listen on"), "{error}");
        #[cfg(target_os = "linux")]
        {
            let file = tempfile::tempfile().unwrap();
            let error = start(Server::builder().listen_on(file).workers(two(&builder)));
            assert!(error.contains("an inherited socket"), "{error}");
        }
    }

    fn a_server_without_grace_ends_handlers_that_wait(builder) {
        let server = server(&builder)
            .grace_period(Duration::ZERO)
            .start(|_| (), |_stream, _| async {
                sleep(LONG).await;
                Ok(())
            })
            .unwrap();
        let stream = TcpStream::connect(address(&server)).unwrap();
        eventually("it is there", || server.totals().active() == 1);
        drop(server);
        assert!(is_closed(&stream));
    }

    fn a_second_server_on_the_port_is_refused(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let first = server(&builder).balance(balance).start(|_| (), |stream, _| echo(stream));
            let first = first.unwrap();
            let address = address(&first);
            let second = Server::builder().listen(address).workers(two(&builder)).balance(balance);
            let error = second.start(|_| (), |stream, _| echo(stream)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&address.to_string()), "{text}");
            assert!(text.contains("another program listens there"), "{text}");
            assert_eq!(format!("{error:?}"), text);
            // The first server has lost no connection.
            for _ in 0..8 {
                ask(&mut TcpStream::connect(address).unwrap(), "hello");
            }
            drop(first);
            // And the port is free again.
            let third = Server::builder().listen(address).workers(two(&builder));
            drop(third.start(|_| (), |stream, _| echo(stream)).unwrap());
        }
    }

    fn errors_of_handlers_are_reported(builder) {
        let (tell, told) = std::sync::mpsc::channel();
        let server = server(&builder)
            .idle_timeout(Duration::MAX)
            .on_error(move |peer, error| {
                tell.send((peer.as_inet().unwrap(), error.to_string())).unwrap();
            })
            .start(|_| (), |stream, _| async move {
                let (result, buf) = stream.recv(vec![0; 1]).await;
                match result? {
                    1 if buf[0] == b'x' => Err(std::io::Error::other("x is refused")),
                    _ => Ok(()),
                }
            })
            .unwrap();
        for text in ["a", "x"] {
            let mut stream = TcpStream::connect(address(&server)).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            assert!(is_closed(&stream));
            if text == "x" {
                let (peer, error) = told.recv().unwrap();
                assert_eq!((peer, &*error), (stream.local_addr().unwrap(), "x is refused"));
            }
        }
        server.stop();
        let totals = server.join();
        assert_eq!((totals.finished, totals.failed), (1, 1));
        assert!(told.try_recv().is_err(), "one report only");
    }

    fn absurd_times_mean_never(builder) {
        for time in [Duration::MAX, Duration::from_secs(u64::MAX / 2), NEARLY_600_YEARS] {
            let server = server(&builder)
                .total_timeout(time)
                .idle_timeout(time)
                .grace_period(time)
                .accepts_per_second(f64::INFINITY)
                .start(|_| (), |stream, _| echo(stream))
                .unwrap();
            let mut stream = TcpStream::connect(address(&server)).unwrap();
            ask(&mut stream, "hello");
            server.stop();
            thread::sleep(Duration::from_millis(20));
            ask(&mut stream, "still here");
            drop(stream);
            assert_eq!(server.join().finished, 1);
        }
    }
}

/// About the longest time that 64 bits hold in nanoseconds.
const NEARLY_600_YEARS: Duration = Duration::from_secs(584 * 365 * 24 * 3600);
