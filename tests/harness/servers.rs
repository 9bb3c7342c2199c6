//! Servers, their clients, and contexts on other threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corio::net::Stream;
use corio::server::{Server, ServerBuilder, Workers, WorkersBuilder};
use corio::{Builder, Handle, IoContext};

use super::guard::TIME_LIMIT;

/// A context on a thread of its own, until dropped.
pub(crate) struct Elsewhere {
    pub(crate) handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Elsewhere {
    pub(crate) fn new(builder: &Builder) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let builder = builder.clone();
        let thread = std::thread::spawn(move || {
            let mut context = builder.build().unwrap();
            tell.send(context.handle()).unwrap();
            context.run(|_: &IoContext| {}).unwrap();
        });
        Elsewhere { handle: told.recv().unwrap(), thread: Some(thread) }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn two(builder: &Builder) -> WorkersBuilder {
    Workers::builder().count(2).context(builder.clone())
}

/// A server on two workers, on a free port.
pub(crate) fn server(builder: &Builder) -> ServerBuilder {
    Server::builder().listen("127.0.0.1:0").workers(two(builder))
}

pub(crate) fn address(server: &Server) -> SocketAddr {
    server.addresses()[0].as_inet().unwrap()
}

/// The handler of an echo server.
pub(crate) async fn echo(stream: Stream) -> std::io::Result<()> {
    let mut buf = Vec::with_capacity(4096);
    loop {
        let (result, received) = stream.recv(buf).await;
        if result? == 0 {
            return Ok(());
        }
        let (result, sent) = stream.send_all(received).await;
        result?;
        buf = sent;
    }
}

/// Sends `text` to an echo server and receives it back.
pub(crate) fn ask(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text.as_bytes());
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < TIME_LIMIT / 2, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
