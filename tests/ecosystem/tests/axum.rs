//! axum on corio's servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::routing::get;
use corio::compat::axum::serve;
use corio::compat::handler;
use corio::compat::hyper::{Executor, Io};
use corio::server::{Server, ServerBuilder, Workers};
use corio::{Builder, IoContext, fs, net, sleep, spawn, timeout};
use corio_ecosystem::{Outcome, on_each_driver};

/// A server of two workers, which has yet to be started.
fn two_workers(context: Builder) -> ServerBuilder {
    Server::builder().listen("127.0.0.1:0").workers(Workers::builder().count(2).context(context))
}

fn address(server: &Server) -> SocketAddr {
    server.addresses()[0].as_inet().expect("an IP address")
}

/// Sends a request, and returns the whole answer.
fn ask(server: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(server)?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_router_answers_and_knows_its_client() -> Outcome {
    on_each_driver(|builder| {
        let router = Router::new().route("/", get(|| async { "Hello, World!" })).route(
            "/me",
            get(|ConnectInfo(me): ConnectInfo<SocketAddr>| async move { me.ip().to_string() }),
        );
        let server = serve(two_workers(builder), router)?;
        let answer = ask(address(&server), "/")?;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nHello, World!"));
        assert!(ask(address(&server), "/me")?.ends_with("\r\n\r\n127.0.0.1"));
        assert!(ask(address(&server), "/nothing")?.starts_with("HTTP/1.1 404"));
        server.stop();
        server.join();
        Ok(())
    })
}

/// What a handler waits for: a sleep, an upstream that says nothing, or reads of files.
async fn wait(number: usize, upstream: SocketAddr) {
    match number % 3 {
        0 => sleep(Duration::from_secs(3600)).await,
        1 => {
            if let Ok(stream) = net::TcpStream::connect(upstream).await {
                drop(stream.recv(vec![0; 100]).await);
            }
        }
        _ => {
            for _ in 0..100 {
                if let Ok(file) = fs::File::open("Cargo.toml").await {
                    drop(file.read_at(Vec::with_capacity(4096), 0).await);
                }
            }
        }
    }
}

/// Asks for `/wait`, over HTTP/1 or HTTP/2, and leaves a moment later.
async fn ask_and_leave(server: SocketAddr, number: u64) -> Outcome {
    let stream = net::TcpStream::connect(server).await?;
    let moment = Duration::from_micros(number * 7919 % 20_000);
    if number.is_multiple_of(2) {
        stream.send_all("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.0?;
        if number.is_multiple_of(3) {
            // The connection is reset, and not ended.
            stream.options().set_linger(Some(Duration::ZERO))?;
        }
        sleep(moment).await;
        return Ok(());
    }
    let io = Io::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(Executor::new(), io).await?;
    let connection = spawn(connection).cancel_on_drop();
    for _ in 0..2 {
        let request = hyper::Request::get("/wait").body(String::new())?;
        let asking = sender.send_request(request);
        drop(timeout(moment / 2, asking).await);
    }
    drop(connection);
    Ok(())
}

#[test]
fn a_thousand_clients_that_leave_do_no_harm() -> Outcome {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let upstream = silent.local_addr()?;
    on_each_driver(|builder| {
        let begun = Arc::new(AtomicUsize::new(0));
        let waits = move |State(begun): State<Arc<AtomicUsize>>| {
            handler(wait(begun.fetch_add(1, Ordering::Relaxed), upstream))
        };
        let in_flight = || async { corio::in_flight().len().to_string() };
        let router = Router::new()
            .route("/wait", get(waits))
            .route("/in-flight", get(in_flight))
            .with_state(begun.clone());
        let server = serve(two_workers(builder), router)?;
        let to = address(&server);
        IoContext::new(64)?.block_on(async {
            for hundred in 0..10 {
                let clients: Vec<_> =
                    (0..100).map(|n| spawn(ask_and_leave(to, hundred * 100 + n))).collect();
                for client in clients {
                    client.await?.map_err(|error| error.to_string())?;
                }
            }
            Outcome::Ok(())
        })?;
        let begun = begun.load(Ordering::Relaxed);
        assert!(begun > 500, "{begun} handlers have begun");
        // Either worker has an accept and the receive of this request, and nothing else.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut quiet = 0;
        while quiet < 20 {
            let answer = ask(to, "/in-flight")?;
            let number: usize = answer.rsplit("\r\n").next().unwrap_or_default().parse()?;
            quiet = if number <= 2 { quiet + 1 } else { 0 };
            assert!(Instant::now() < deadline, "{number} operations stay in flight");
        }
        server.stop();
        let totals = server.join();
        assert_eq!(totals.active(), 0, "{totals:?}");
        Ok(())
    })
}
