//! monoio: with its defaults, with the ring flags that its builder offers, and on its epoll
//! driver.

use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use monoio::fs::File;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::peer::Peer;
use super::tasks::{self, Receives, Runtime, Sends, neutral};
use crate::block::Block;
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

struct Default;
struct Tuned;
struct Epoll;

pub(super) fn peers() -> Vec<Peer> {
    fn peer<R: Driver>(name: &'static str, settings: &'static str) -> Peer {
        Peer {
            name,
            settings,
            echo: echo::<R>,
            http: hello::<R>,
            files: Some(files::<R>),
            reads: Some(reads::<R>),
            copy: Some(copy::<R>),
            tasks: Some(tasks::tasks::<R>()),
        }
    }
    let mut epoll = peer::<Epoll>("monoio-epoll", "legacy driver");
    // On this driver monoio's file operations block the thread.
    (epoll.files, epoll.reads, epoll.copy) = (None, None, None);
    vec![
        peer::<Default>("monoio", "default"),
        peer::<Tuned>("monoio-tuned", "uring_builder: single issuer, deferred task run"),
        epoll,
    ]
}

/// A driver of monoio.
trait Driver: Runtime {
    /// Whether the driver needs non-blocking sockets.
    const NONBLOCKING: bool = false;
}

impl Driver for Default {}
impl Driver for Tuned {}
impl Driver for Epoll {
    const NONBLOCKING: bool = true;
}

async fn accept<R: Driver, F: Future<Output = ()> + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    listener.set_nonblocking(R::NONBLOCKING).expect("the listener can be switched");
    let listener = TcpListener::from_std(listener).expect("the listener is taken");
    while let Ok((stream, _)) = listener.accept().await {
        monoio::spawn(serve(stream));
    }
}

fn echo<R: Driver>(listener: StdListener, buffer: usize) {
    R::block_on(accept::<R, _>(listener, move |mut stream| async move {
        let mut buf = Vec::with_capacity(buffer);
        loop {
            let (result, received) = stream.read(buf).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            let (result, sent) = stream.write_all(received).await;
            if result.is_err() {
                return;
            }
            buf = sent;
        }
    }));
}

fn hello<R: Driver>(listener: StdListener) {
    R::block_on(accept::<R, _>(listener, |mut stream| async move {
        let (mut chunk, mut input) = (Vec::with_capacity(4096), Vec::new());
        let mut output = Vec::with_capacity(4096);
        loop {
            let result;
            (result, chunk) = stream.read(chunk).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            input.extend_from_slice(&chunk);
            http::answer_hello(&mut input, &mut output);
            let (result, sent) = stream.write_all(output).await;
            if result.is_err() {
                return;
            }
            output = sent;
            output.clear();
        }
    }));
}

fn files<R: Driver>(listener: StdListener, root: PathBuf) {
    let root = Rc::new(root);
    R::block_on(accept::<R, _>(listener, move |mut stream| {
        let root = root.clone();
        async move {
            let (mut chunk, mut input) = (Vec::with_capacity(4096), Vec::new());
            let mut head = Vec::with_capacity(256);
            let mut body = Vec::with_capacity(http::CHUNK);
            loop {
                let result;
                (result, chunk) = stream.read(chunk).await;
                if !matches!(result, Ok(1..)) {
                    return;
                }
                input.extend_from_slice(&chunk);
                while let Some(path) = http::take_file_request(&mut input, &root) {
                    let file = File::open(path).await.expect("the file opens");
                    let len = file.metadata().await.expect("the file has a size").len();
                    head.clear();
                    http::head(&mut head, len);
                    let sent;
                    (sent, head) = stream.write_all(head).await;
                    if sent.is_err() {
                        return;
                    }
                    let mut at = 0;
                    while at < len {
                        let read;
                        (read, body) = file.read_at(body, at).await;
                        at += read.expect("a read works") as u64;
                        let sent;
                        (sent, body) = stream.write_all(body).await;
                        if sent.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }));
}

fn reads<R: Runtime>(reads: Reads) -> Done {
    R::block_on(async move {
        let file = Rc::new(File::from_std(reads.open()).expect("the file is taken"));
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                monoio::spawn(async move {
                    let mut buf = Block::new();
                    for block in blocks {
                        let result;
                        (result, buf) = file.read_at(buf, block * BLOCK as u64).await;
                        check_block(&buf.bytes()[..result.expect("a read works")], block);
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await;
        }
        watch.stop(reads.count())
    })
}

fn copy<R: Runtime>(from: &Path, to: &Path) -> Done {
    let (from, to) = (from.to_owned(), to.to_owned());
    R::block_on(async move {
        let from = File::open(from).await.expect("the source opens");
        let to = File::create(to).await.expect("the copy can be made");
        let watch = Stopwatch::start();
        let mut buf = Vec::with_capacity(http::CHUNK);
        let mut at = 0;
        loop {
            let (read, filled) = from.read_at(buf, at).await;
            if read.expect("a read works") == 0 {
                break;
            }
            let len = filled.len() as u64;
            let (written, emptied) = to.write_all_at(filled, at).await;
            written.expect("a write works");
            at += len;
            buf = emptied;
        }
        watch.stop(at)
    })
}

macro_rules! runtime {
    ($name:ident, $builder:expr) => {
        impl Runtime for $name {
            fn block_on<F: Future + 'static>(future: F) -> F::Output
            where
                F::Output: 'static,
            {
                $builder.enable_timer().build().expect("a runtime can be made").block_on(future)
            }

            fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
            where
                F::Output: 'static,
            {
                monoio::spawn(future)
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                monoio::time::sleep(duration)
            }

            fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>) {
                neutral::channel(capacity)
            }
        }
    };
}

runtime!(Default, RuntimeBuilder::<IoUringDriver>::new());
runtime!(
    Tuned,
    RuntimeBuilder::<IoUringDriver>::new().uring_builder({
        // monoio takes a builder of the io-uring version that tokio-uring re-exports.
        let mut flags = tokio_uring::uring_builder();
        flags.setup_single_issuer().setup_defer_taskrun();
        flags
    })
);
runtime!(Epoll, RuntimeBuilder::<LegacyDriver>::new());
