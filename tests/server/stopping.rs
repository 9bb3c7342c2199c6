//! The four rules of a stop.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use corio::server::Balance;
use corio::{RaceOutput, race, sleep};

use crate::harness::{LONG, address, ask, echo, eventually, server};

every_driver! {
    fn an_idle_server_stops_at_once(builder) {
        let server = server(&builder)
            .grace_period(LONG)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        server.stop();
        server.join();
    }

    fn a_stuck_operation_is_cancelled_after_the_grace_period(builder) {
        let server = server(&builder)
            .grace_period(Duration::from_millis(20))
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        ask(&mut stream, "hello");
        let began = Instant::now();
        server.stop();
        let totals = server.join();
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!((totals.cancelled, totals.finished), (1, 0));
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }

    fn a_handler_that_only_looks_whether_the_server_stops_is_polled_once_more(builder) {
        let begun = Arc::new(AtomicU64::new(0));
        let counted = begun.clone();
        let server = server(&builder)
            .grace_period(LONG)
            .start(
                move |_| counted.clone(),
                |stream, ctx| async move {
                    let mut incoming = stream.recv_stream();
                    let mut next = pin!(incoming.recv());
                    ctx.state().fetch_add(1, Ordering::SeqCst);
                    poll_fn(|cx| match next.as_mut().poll(cx) {
                        Poll::Pending if ctx.is_stopping() => Poll::Ready(()),
                        polled => polled.map(|_| panic!("the client has sent nothing")),
                    })
                    .await;
                    Ok(())
                },
            )
            .unwrap();
        let to = address(&server);
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(to).unwrap()).collect();
        eventually("all wait", || begun.load(Ordering::SeqCst) == 20);
        server.stop();
        assert_eq!(server.join().finished, 20);
        drop(clients);
    }

    fn a_second_signal_forces_the_stop(builder) {
        let server = server(&builder)
            .grace_period(LONG)
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        ask(&mut stream, "hello");
        server.stop();
        ask(&mut stream, "still there");
        server.abort();
        assert_eq!(server.join().cancelled, 1);
    }

    fn new_work_is_refused_while_stopping(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let server = server(&builder)
                .balance(balance)
                .grace_period(LONG)
                .start(|_| (), |stream, _| echo(stream))
                .unwrap();
            let to = address(&server);
            let mut stream = TcpStream::connect(to).unwrap();
            ask(&mut stream, "hello");
            server.stop();
            eventually("the port is closed", || TcpStream::connect(to).is_err());
            ask(&mut stream, "this one goes on");
            drop(stream);
            let totals = server.join();
            assert_eq!(totals.cancelled + totals.failed + totals.panicked, 0, "{totals:?}");
        }
    }

    fn work_that_can_finish_in_the_grace_period_finishes(builder) {
        let server = server(&builder)
            .grace_period(LONG)
            .start(
                |_| (),
                |stream, ctx| async move {
                    // Requests of four bytes, until the client or the server ends the connection.
                    loop {
                        let buf = [0; 4];
                        let request = stream.recv_exact(buf);
                        match race(request, ctx.stopping()).await {
                            RaceOutput::First((result, buf), _)
                            | RaceOutput::Second(Some((result, buf)), ())
                                if result.is_ok() =>
                            {
                                sleep(Duration::from_millis(10)).await;
                                stream.send_all(buf).await.0?;
                            }
                            _ => return Ok(()),
                        }
                        if ctx.is_stopping() {
                            return Ok(());
                        }
                    }
                },
            )
            .unwrap();
        let to = address(&server);
        let mut idle = TcpStream::connect(to).unwrap();
        ask(&mut idle, "ping");
        let mut busy = TcpStream::connect(to).unwrap();
        ask(&mut busy, "ping");
        busy.write_all(b"last").unwrap();
        thread::sleep(Duration::from_millis(3));
        server.stop();
        let mut back = [0; 4];
        busy.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"last");
        assert_eq!(idle.read(&mut back).unwrap(), 0);
        let totals = server.join();
        assert_eq!((totals.finished, totals.cancelled), (2, 0));
    }

    /// Every request that was sent on an accepted connection is answered; connections that come too
    /// late are refused as a whole.
    fn a_stop_under_load_loses_no_accepted_request(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let server = server(&builder)
                .balance(balance)
                .grace_period(LONG)
                .start(
                    |_| (),
                    |stream, _| async move {
                        let (result, buf) = stream.recv_exact([0; 4]).await;
                        result?;
                        stream.send_all(buf).await.0?;
                        stream.close().await
                    },
                )
                .unwrap();
            let to = address(&server);
            let enough = Arc::new(AtomicBool::new(false));
            let answered = Arc::new(AtomicU64::new(0));
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    let (enough, answered) = (enough.clone(), answered.clone());
                    thread::spawn(move || {
                        while !enough.load(Ordering::Relaxed) {
                            let Ok(mut stream) = TcpStream::connect(to) else { return };
                            // A connection that the kernel took after the last look at its queue
                            // is reset before anything of it was accepted.
                            if stream.write_all(b"ping").is_err() {
                                return;
                            }
                            let mut back = [0; 4];
                            match stream.read_exact(&mut back) {
                                Ok(()) => answered.fetch_add(1, Ordering::SeqCst),
                                Err(_) => return,
                            };
                        }
                    })
                })
                .collect();
            eventually("there is load", || answered.load(Ordering::SeqCst) > 500);
            server.stop();
            let totals = server.join();
            enough.store(true, Ordering::Relaxed);
            clients.into_iter().for_each(|client| client.join().unwrap());
            assert_eq!(totals.finished, totals.accepted, "{totals:?}");
            assert_eq!(answered.load(Ordering::SeqCst), totals.accepted);
        }
    }

    fn a_full_server_stops(builder) {
        let server = server(&builder)
            .max_connections(1)
            .grace_period(Duration::from_millis(10))
            .start(|_| (), |stream, _| echo(stream))
            .unwrap();
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        ask(&mut stream, "hello");
        let waiting: Vec<_> =
            (0..4).map(|_| TcpStream::connect(address(&server)).unwrap()).collect();
        server.stop();
        let totals = server.join();
        // Its place may go to one that waited on the other worker, which is about to stop, too.
        assert!(totals.cancelled >= 1 && totals.active() == 0, "{totals:?}");
        drop((stream, waiting));
    }
}
