//! The distribution of few connections over the workers.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use corio::server::{Balance, Server};

use crate::harness::{address, echo, eventually, server, two};

const RUNS: usize = 20;

/// Returns how many connections each worker has.
fn active(server: &Server) -> Vec<u64> {
    server.stats().iter().map(|worker| worker.active()).collect()
}

/// Opens bursts of connections with `connect`; asserts that both workers get their part.
fn assert_even<T>(server: &Server, connect: impl Fn() -> T) {
    for count in [4, 8, 16, 64] {
        let burst: Vec<T> = (0..count).map(|_| connect()).collect();
        eventually("all are served", || active(server).iter().sum::<u64>() == count);
        let active = active(server);
        let most = active.iter().copied().max().unwrap();
        assert!(active.iter().all(|&each| each > 0), "{count} connections: {active:?}");
        assert!(count < 8 || most * 4 <= count * 3, "{count} connections: {active:?}");
        drop(burst);
        eventually("all have ended", || server.totals().active() == 0);
    }
}

every_driver! {
    fn a_few_connections_to_a_port_are_on_both_workers(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            for _ in 0..RUNS {
                let server = server(&builder).balance(balance);
                let server = server.start(|_| (), |stream, _| echo(stream)).unwrap();
                let to = address(&server);
                assert_even(&server, || TcpStream::connect(to).unwrap());
            }
        }
    }

    fn a_few_connections_to_an_inherited_socket_are_on_both_workers(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            for _ in 0..RUNS {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let server = Server::builder().listen_on(listener).workers(two(&builder));
                let server = server.balance(balance);
                let server = server.start(|_| (), |stream, _| echo(stream)).unwrap();
                let to = address(&server);
                assert_even(&server, || TcpStream::connect(to).unwrap());
            }
        }
    }

    fn connections_that_wait_before_the_start_are_on_both_workers(builder) {
        for _ in 0..RUNS {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            let burst: Vec<_> = (0..16).map(|_| TcpStream::connect(to).unwrap()).collect();
            let server = Server::builder().listen_on(listener).workers(two(&builder));
            let server = server.start(|_| (), |stream, _| echo(stream)).unwrap();
            eventually("all are served", || active(&server).iter().sum::<u64>() == 16);
            assert!(active(&server).iter().all(|&each| each >= 4), "{:?}", active(&server));
            drop(burst);
        }
    }

    fn what_ends_on_one_worker_is_made_up_for_there(builder) {
        let server = server(&builder).start(|_| (), |stream, _| echo(stream)).unwrap();
        let to = address(&server);
        let mut kept = Vec::new();
        for round in 1..=8 {
            // Of each four new ones, three are closed again.
            let new: Vec<_> = (0..4).map(|_| TcpStream::connect(to).unwrap()).collect();
            eventually("all are served", || server.totals().active() == round + 3);
            kept.extend(new.into_iter().next());
            eventually("three have ended", || server.totals().active() == round);
        }
        let burst: Vec<_> = (0..8).map(|_| TcpStream::connect(to).unwrap()).collect();
        eventually("all are served", || server.totals().active() == 16);
        assert!(active(&server).iter().all(|&each| each >= 4), "{:?}", active(&server));
        drop((kept, burst));
    }
}

#[cfg(unix)]
every_driver! {
    fn a_panic_while_accepting_ends_the_server(builder) {
        for balance in [Balance::ReusePort, Balance::LeastLoaded] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let shared = listener.try_clone().unwrap();
            let server = Server::builder()
                .listen_on(std::os::fd::OwnedFd::from(listener))
                .workers(two(&builder))
                .balance(balance)
                .grace_period(Duration::ZERO)
                .on_accept_error(|error| panic!("{error}"))
                .start(|_| (), |stream, _| echo(stream))
                .unwrap();
            // Accepting fails from now on, with `EINVAL`.
            socket2::SockRef::from(&shared).shutdown(std::net::Shutdown::Both).unwrap();
            let joined = thread::spawn(move || server.join()).join();
            assert!(joined.is_err(), "the panic is reported");
        }
    }
}
