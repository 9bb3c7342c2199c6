//! hyper on corio.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use corio::compat::hyper::{Executor, Io, Timer};
use corio::net::{TcpListener, TcpStream};
use corio::{droppable, sleep, spawn};
use corio_ecosystem::{Outcome, on_each_driver};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!")))
}

/// Answers with the request's body.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::from(body)))
}

#[test]
fn requests_of_one_connection_are_answered() -> Outcome {
    on_each_driver(|builder| {
        builder.build()?.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let server = spawn(async move {
                let (stream, _) = listener.accept().await.expect("a client");
                http1::Builder::new()
                    .timer(Timer::new())
                    .header_read_timeout(Duration::from_secs(60))
                    .serve_connection(Io::new(stream), service_fn(echo))
                    .await
            });
            let io = Io::new(TcpStream::connect(address).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            let driving = spawn(connection);
            for len in [0, 1, 1000, 20_000, 1 << 20, 5 << 20] {
                let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
                let request = Request::post("/").body(Full::<Bytes>::from(body.clone()))?;
                let response = sender.send_request(request).await?;
                let answer = response.into_body().collect().await?.to_bytes();
                assert!(answer == body, "{} of {len} bytes came back", answer.len());
            }
            drop(sender);
            driving.await??;
            server.await??;
            assert!(corio::in_flight().is_empty(), "{:?}", corio::in_flight());
            Ok(())
        })
    })
}

#[test]
fn many_streams_of_http2_are_answered() -> Outcome {
    on_each_driver(|builder| {
        builder.build()?.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let server = spawn(async move {
                let (stream, _) = listener.accept().await.expect("a client");
                http2::Builder::new(Executor::new())
                    .timer(Timer::new())
                    .keep_alive_interval(Duration::from_secs(60))
                    .serve_connection(Io::new(stream), service_fn(echo))
                    .await
            });
            let io = Io::new(TcpStream::connect(address).await?);
            let (sender, connection) =
                hyper::client::conn::http2::handshake(Executor::new(), io).await?;
            let driving = spawn(connection);
            let tasks: Vec<_> = (0..100)
                .map(|number| {
                    let mut sender = sender.clone();
                    spawn(async move {
                        let body = vec![number as u8; number * 1000];
                        let request = Request::post("/")
                            .body(Full::<Bytes>::from(body.clone()))
                            .expect("valid");
                        let response = sender.send_request(request).await?;
                        let answer = response.into_body().collect().await?.to_bytes();
                        assert!(answer == body);
                        Ok::<(), hyper::Error>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await??;
            }
            drop(sender);
            driving.await??;
            server.await??;
            Ok(())
        })
    })
}

/// The clients leave while their handlers wait for a sleep or an upstream that says nothing.
#[test]
fn clients_that_leave_do_no_harm() -> Outcome {
    on_each_driver(|builder| {
        let mut context = builder.build()?;
        context.block_on(async {
            let upstream = TcpListener::bind("127.0.0.1:0")?;
            let upstream_address = upstream.local_addr()?;
            let silent = spawn(async move {
                let mut kept = Vec::new();
                loop {
                    kept.push(upstream.accept().await);
                }
            });
            let begun = Rc::new(Cell::new(0));
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let counter = begun.clone();
            let server = spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("a client");
                    let counter = counter.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let counter = counter.clone();
                        droppable(async move {
                            counter.set(counter.get() + 1);
                            if counter.get() % 2 == 0 {
                                sleep(Duration::from_secs(3600)).await;
                            } else if let Ok(stream) = TcpStream::connect(upstream_address).await {
                                let _ = stream.recv(vec![0; 100]).await;
                            }
                            hello(request).await
                        })
                    });
                    let connection =
                        http1::Builder::new().serve_connection(Io::new(stream), service);
                    spawn(async move { drop(connection.await) });
                }
            });
            for round in 0..200 {
                let client = TcpStream::connect(address).await?;
                client.send_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.0?;
                for _ in 0..round % 7 {
                    corio::yield_now().await;
                }
                if round % 3 == 0 {
                    client.options().set_linger(Some(Duration::ZERO))?;
                }
                drop(client);
            }
            for _ in 0..1000 {
                if begun.get() > 150 {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
            assert!(begun.get() > 150, "{} handlers have begun", begun.get());
            for _ in 0..1000 {
                if corio::in_flight().len() <= 2 {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
            assert!(corio::in_flight().len() <= 2, "{:?}", corio::in_flight());
            server.cancel();
            silent.cancel();
            Outcome::Ok(())
        })?;
        Ok(())
    })
}
