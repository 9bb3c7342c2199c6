//! corio, as in its README.

use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use corio::buf::IoBuf;
use corio::fs::File;
use corio::net::{TcpListener, TcpStream};
use corio::op::AsyncSend;
use corio::sync::mpsc::{Receiver, Sender, channel};
use corio::{DriverChoice, IoContext};

use super::peer::Peer;
use super::tasks::{self, Receives, ReceivesHere, Runtime, Sends, SendsHere};
use crate::block::Block;
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

struct Ring;
struct Readiness;

pub(super) fn peers() -> Vec<Peer> {
    fn peer<R: Runtime>(name: &'static str, settings: &'static str) -> Peer {
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
    let with_buffers = Peer {
        echo: echo_buffers::<Ring>,
        http: hello_buffers::<Ring>,
        files: None,
        reads: None,
        copy: None,
        tasks: None,
        ..peer::<Ring>("corio-buffers", "default; each connection receives into its own buffer")
    };
    vec![
        peer::<Ring>("corio", "default"),
        with_buffers,
        peer::<Readiness>("corio-epoll", "driver: readiness"),
    ]
}

async fn accept<F: Future<Output = ()> + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let listener = TcpListener::from(listener);
    while let Ok((stream, _)) = listener.accept().await {
        corio::spawn(serve(stream));
    }
}

/// Ignores the buffer size: the context chooses it.
fn echo<R: Runtime>(listener: StdListener, _buffer: usize) {
    R::block_on(accept(listener, |stream| async move {
        let mut chunks = stream.recv_stream();
        while let Ok(Some(chunk)) = chunks.recv().await {
            if stream.send_all(chunk).await.0.is_err() {
                return;
            }
        }
    }));
}

fn hello<R: Runtime>(listener: StdListener) {
    R::block_on(accept(listener, |stream| async move {
        let (mut input, mut output) = (Vec::new(), Vec::with_capacity(4096));
        let mut chunks = stream.recv_stream();
        while let Ok(Some(chunk)) = chunks.recv().await {
            input.extend_from_slice(&chunk);
            drop(chunk);
            let Some(sent) = answer_hello(&stream, &mut input, output).await else { return };
            output = sent;
        }
    }));
}

/// Answers the received bytes; returns `None` if the client has disconnected.
async fn answer_hello(
    stream: &TcpStream,
    input: &mut Vec<u8>,
    mut output: Vec<u8>,
) -> Option<Vec<u8>> {
    http::answer_hello(input, &mut output);
    let (result, mut sent) = stream.send_all(output).await;
    result.ok()?;
    sent.clear();
    Some(sent)
}

fn echo_buffers<R: Runtime>(listener: StdListener, buffer: usize) {
    R::block_on(accept(listener, move |stream| async move {
        let mut buf = Vec::with_capacity(buffer);
        loop {
            let (result, received) = stream.recv(buf).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            let (result, sent) = stream.send_all(received).await;
            if result.is_err() {
                return;
            }
            buf = sent;
        }
    }));
}

fn hello_buffers<R: Runtime>(listener: StdListener) {
    R::block_on(accept(listener, |stream| async move {
        let (mut chunk, mut input) = (Vec::with_capacity(4096), Vec::new());
        let mut output = Vec::with_capacity(4096);
        loop {
            let result;
            (result, chunk) = stream.recv(chunk).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            input.extend_from_slice(&chunk);
            let Some(sent) = answer_hello(&stream, &mut input, output).await else { return };
            output = sent;
        }
    }));
}

fn files<R: Runtime>(listener: StdListener, root: PathBuf) {
    let root = Rc::new(root);
    R::block_on(accept(listener, move |stream| {
        let root = root.clone();
        async move {
            let (mut input, mut head) = (Vec::new(), Vec::with_capacity(256));
            let mut chunks = stream.recv_stream();
            while let Ok(Some(chunk)) = chunks.recv().await {
                input.extend_from_slice(&chunk);
                drop(chunk);
                while let Some(path) = http::take_file_request(&mut input, &root) {
                    let file = File::open(path).await.expect("the file opens");
                    let len = file.metadata().await.expect("the file has a size").len();
                    head.clear();
                    http::head(&mut head, len);
                    // A small file is sent together with its head, as the file server example does.
                    let small = len <= 16 * 1024;
                    if small {
                        let end = head.len();
                        head.reserve(len as usize);
                        let (read, filled) =
                            file.read_exact_at(head.slice(end..end + len as usize), 0).await;
                        read.expect("a read works");
                        head = filled.into_inner();
                    }
                    if small {
                        let sent;
                        (sent, head) = stream.send_all(head).await;
                        if sent.is_err() {
                            return;
                        }
                        continue;
                    }
                    // The head waits for the body's first bytes.
                    let sent;
                    (sent, head) = AsyncSend::with_flags(&stream, head, libc::MSG_MORE).await;
                    if sent.ok() != Some(head.len()) {
                        return;
                    }
                    if stream.send_file(&file, 0, len).await.is_err() {
                        return;
                    }
                }
            }
        }
    }));
}

fn reads<R: Runtime>(reads: Reads) -> Done {
    R::block_on(async move {
        let file = Rc::new(File::from(reads.open()));
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                corio::spawn(async move {
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
            reader.await.expect("a reader ends well");
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

fn context(driver: DriverChoice) -> IoContext {
    IoContext::builder().driver(driver).build().expect("a context can be made")
}

macro_rules! runtime {
    ($name:ident, $driver:ident) => {
        impl Runtime for $name {
            fn block_on<F: Future + 'static>(future: F) -> F::Output
            where
                F::Output: 'static,
            {
                context(DriverChoice::$driver).block_on(future)
            }

            fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
            where
                F::Output: 'static,
            {
                let task = corio::spawn(future);
                async { task.await.expect("a task ends well") }
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                corio::sleep(duration)
            }

            fn yield_now() -> impl Future<Output = ()> {
                corio::yield_now()
            }

            fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>) {
                channel(capacity)
            }
        }
    };
}

runtime!(Ring, Auto);
runtime!(Readiness, Readiness);

impl<T: Send + 'static> Sends<T> for Sender<T> {
    async fn attach(self) -> impl SendsHere<T> + 'static {
        self
    }
}

impl<T> SendsHere<T> for Sender<T> {
    async fn send(&mut self, value: T) {
        assert!(Sender::send(self, value).await.is_ok(), "the receiver is there");
    }
}

impl<T: Send + 'static> Receives<T> for Receiver<T> {
    async fn attach(self) -> impl ReceivesHere<T> + 'static {
        self
    }
}

impl<T> ReceivesHere<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        Receiver::recv(self).await
    }
}
