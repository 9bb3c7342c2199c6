//! compio: with its defaults, and with the ring flags that its builder offers.

use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::fs::{File, OpenOptions};
use compio::io::{AsyncRead, AsyncReadAt, AsyncWriteAtExt, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;

use super::peer::Peer;
use super::tasks::{self, Receives, Runtime, Sends, neutral};
use crate::block::Block;
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

struct Default;
struct Tuned;

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
    vec![
        peer::<Default>("compio", "default"),
        peer::<Tuned>("compio-tuned", "with_proactor: single issuer, deferred task run"),
    ]
}

async fn accept<F: Future<Output = ()> + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let listener = TcpListener::from_std(listener).expect("the listener is taken");
    while let Ok((stream, _)) = listener.accept().await {
        compio::runtime::spawn(serve(stream)).detach();
    }
}

fn echo<R: Runtime>(listener: StdListener, buffer: usize) {
    R::block_on(accept(listener, move |mut stream| async move {
        let mut buf = Vec::with_capacity(buffer);
        loop {
            let BufResult(result, received) = stream.read(buf).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            let BufResult(result, mut sent) = stream.write_all(received).await;
            if result.is_err() {
                return;
            }
            sent.clear();
            buf = sent;
        }
    }));
}

fn hello<R: Runtime>(listener: StdListener) {
    R::block_on(accept(listener, |mut stream| async move {
        let (mut chunk, mut input) = (Vec::with_capacity(4096), Vec::new());
        let mut output = Vec::with_capacity(4096);
        loop {
            chunk.clear();
            let result;
            BufResult(result, chunk) = stream.read(chunk).await;
            if !matches!(result, Ok(1..)) {
                return;
            }
            input.extend_from_slice(&chunk);
            http::answer_hello(&mut input, &mut output);
            let BufResult(result, sent) = stream.write_all(output).await;
            if result.is_err() {
                return;
            }
            output = sent;
            output.clear();
        }
    }));
}

fn files<R: Runtime>(listener: StdListener, root: PathBuf) {
    let root = Rc::new(root);
    R::block_on(accept(listener, move |mut stream| {
        let root = root.clone();
        async move {
            let (mut chunk, mut input) = (Vec::with_capacity(4096), Vec::new());
            let mut head = Vec::with_capacity(256);
            let mut body = Vec::with_capacity(http::CHUNK);
            loop {
                chunk.clear();
                let result;
                BufResult(result, chunk) = stream.read(chunk).await;
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
                    BufResult(sent, head) = stream.write_all(head).await;
                    if sent.is_err() {
                        return;
                    }
                    let mut at = 0;
                    while at < len {
                        body.clear();
                        let read;
                        BufResult(read, body) = file.read_at(body, at).await;
                        at += read.expect("a read works") as u64;
                        let sent;
                        BufResult(sent, body) = stream.write_all(body).await;
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
        let flags = if reads.direct { libc::O_DIRECT } else { 0 };
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&reads.file).await;
        let file = Rc::new(file.expect("the file opens"));
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                compio::runtime::spawn(async move {
                    let mut buf = Block::new();
                    for block in blocks {
                        let result;
                        BufResult(result, buf) = file.read_at(buf, block * BLOCK as u64).await;
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
        let mut to = File::create(to).await.expect("the copy can be made");
        let watch = Stopwatch::start();
        let mut buf = Vec::with_capacity(http::CHUNK);
        let mut at = 0;
        loop {
            let BufResult(read, filled) = from.read_at(buf, at).await;
            if read.expect("a read works") == 0 {
                break;
            }
            let len = filled.len() as u64;
            let BufResult(written, emptied) = to.write_all_at(filled, at).await;
            written.expect("a write works");
            at += len;
            buf = emptied;
            buf.clear();
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
                $builder.build().expect("a runtime can be made").block_on(future)
            }

            fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
            where
                F::Output: 'static,
            {
                let task = compio::runtime::spawn(future);
                async { task.await.expect("a task ends well") }
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                compio::time::sleep(duration)
            }

            fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>) {
                neutral::channel(capacity)
            }
        }
    };
}

runtime!(Default, RuntimeBuilder::new());
runtime!(Tuned, {
    let mut ring = ProactorBuilder::new();
    ring.single_issuer(true).defer_taskrun(true);
    let mut builder = RuntimeBuilder::new();
    builder.with_proactor(ring);
    builder
});
