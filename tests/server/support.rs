//! What the tests share.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corio::net::Stream;
use corio::server::{Server, ServerBuilder, Workers, WorkersBuilder};
use corio::{Builder, Handle, IoContext};

/// So long that a test which waits for it is caught by the guard.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// Longer than any test takes.
const POLL_BUDGET: Duration = Duration::from_secs(120);

/// Declares tests that are given a context's builder, and run once per driver.
macro_rules! every_driver {
    ($($(#[$attr:meta])* fn $name:ident($builder:ident) $body:block)+) => {$(
        $(#[$attr])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn on($builder: corio::Builder) $body

            on_every_driver!(|driver: $crate::drivers::Driver, _| {
                $crate::support::guarded(|| on(driver.builder()))
            });
        }
    )+};
}
pub(crate) use every_driver;

/// Runs a test; the process is aborted, with the test's name, if that takes for ever.
pub(crate) fn guarded(test: impl FnOnce()) {
    let over = Arc::new(Mutex::new(false));
    let (watched, started) = (over.clone(), Instant::now());
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let watch = std::thread::spawn(move || {
        while !*watched.lock().unwrap() {
            if started.elapsed() > POLL_BUDGET {
                eprintln!("the test {name} hangs");
                std::process::abort();
            }
            std::thread::park_timeout(Duration::from_secs(1));
        }
    });
    struct Over(Arc<Mutex<bool>>, std::thread::Thread);
    impl Drop for Over {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = true;
            self.1.unpark();
        }
    }
    let _over = Over(over, watch.thread().clone());
    test();
}

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

/// Sends `text` and has it sent back.
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
        assert!(started.elapsed() < POLL_BUDGET / 2, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
