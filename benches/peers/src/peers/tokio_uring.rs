//! tokio-uring: with its defaults, and with the ring flags that its builder offers.

use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio_uring::fs::File;
use tokio_uring::net::{TcpListener, TcpStream};

use super::peer::Peer;
use super::tasks::{self, Receives, Runtime, Sends};
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
        peer::<Default>("tokio-uring", "default"),
        peer::<Tuned>("tokio-uring-tuned", "uring_builder: cooperative task run, 1024 entries"),
    ]
}

async fn accept<F: Future<Output = ()> + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let listener = TcpListener::from_std(listener);
    while let Ok((stream, _)) = listener.accept().await {
        tokio_uring::spawn(serve(stream));
    }
}

fn echo<R: Runtime>(listener: StdListener, buffer: usize) {
    R::block_on(accept(listener, move |stream| async move {
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

fn hello<R: Runtime>(listener: StdListener) {
    R::block_on(accept(listener, |stream| async move {
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

fn files<R: Runtime>(listener: StdListener, root: PathBuf) {
    let root = Rc::new(root);
    R::block_on(accept(listener, move |stream| {
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
                    // tokio-uring has no call for a file's size.
                    let len = std::fs::metadata(&path).expect("the file has a size").len();
                    let file = File::open(path).await.expect("the file opens");
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
                    let _ = file.close().await;
                }
            }
        }
    }));
}

fn reads<R: Runtime>(reads: Reads) -> Done {
    R::block_on(async move {
        let file = Rc::new(File::from_std(reads.open()));
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                tokio_uring::spawn(async move {
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

macro_rules! runtime {
    ($name:ident, $start:expr) => {
        impl Runtime for $name {
            fn block_on<F: Future + 'static>(future: F) -> F::Output
            where
                F::Output: 'static,
            {
                ($start)(future)
            }

            fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
            where
                F::Output: 'static,
            {
                let task = tokio_uring::spawn(future);
                async { task.await.expect("a task ends well") }
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                tokio::time::sleep(duration)
            }

            fn yield_now() -> impl Future<Output = ()> {
                tokio::task::yield_now()
            }

            fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>) {
                tokio::sync::mpsc::channel(capacity)
            }
        }
    };
}

runtime!(Default, tokio_uring::start);
runtime!(Tuned, |future| {
    let mut flags = tokio_uring::uring_builder();
    flags.setup_coop_taskrun().setup_taskrun_flag();
    tokio_uring::builder().entries(1024).uring_builder(&flags).start(future)
});
