//! tokio, on one thread.

use std::io;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::LocalSet;

use super::peer::Peer;
use super::tasks::{self, Receives, ReceivesHere, Runtime, Sends, SendsHere};
use crate::block::Block;
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

struct CurrentThread;

pub(super) fn peers() -> Vec<Peer> {
    vec![Peer {
        name: "tokio",
        settings: "current_thread",
        echo,
        http: hello,
        files: Some(files),
        reads: Some(reads),
        copy: Some(copy),
        tasks: Some(tasks::tasks::<CurrentThread>()),
    }]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// Spawns `serve` for each connection; an error ends only that connection.
fn accept<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    listener.set_nonblocking(true).expect("the listener is taken");
    runtime().block_on(async move {
        let listener = TcpListener::from_std(listener).expect("the listener is taken");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
}

fn echo(listener: StdListener, buffer: usize) {
    accept(listener, move |mut stream| async move {
        let mut buf = vec![0; buffer];
        loop {
            match stream.read(&mut buf).await? {
                0 => return Ok(()),
                received => stream.write_all(&buf[..received]).await?,
            }
        }
    });
}

fn hello(listener: StdListener) {
    accept(listener, |mut stream| async move {
        let (mut input, mut output) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
        while stream.read_buf(&mut input).await? > 0 {
            http::answer_hello(&mut input, &mut output);
            stream.write_all(&output).await?;
            output.clear();
        }
        Ok(())
    });
}

fn files(listener: StdListener, root: PathBuf) {
    let root = Arc::new(root);
    accept(listener, move |mut stream| {
        let root = root.clone();
        async move {
            let (mut input, mut head) = (Vec::with_capacity(4096), Vec::with_capacity(256));
            let mut body = vec![0; http::CHUNK];
            while stream.read_buf(&mut input).await? > 0 {
                while let Some(path) = http::take_file_request(&mut input, &root) {
                    let mut file = File::open(path).await.expect("the file opens");
                    let len = file.metadata().await.expect("the file has a size").len();
                    head.clear();
                    http::head(&mut head, len);
                    stream.write_all(&head).await?;
                    loop {
                        match file.read(&mut body).await.expect("a read works") {
                            0 => break,
                            read => stream.write_all(&body[..read]).await?,
                        }
                    }
                }
            }
            Ok(())
        }
    });
}

/// tokio's files have only a shared position. As its documentation advises, positioned reads are
/// blocking calls on its pool of blocking threads.
fn reads(reads: Reads) -> Done {
    use std::os::unix::fs::FileExt;
    runtime().block_on(async move {
        let file = Arc::new(reads.open());
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                tokio::spawn(async move {
                    let mut buf = Block::new();
                    for block in blocks {
                        let file = file.clone();
                        let read = tokio::task::spawn_blocking(move || {
                            let result = file.read_at(buf.bytes_mut(), block * BLOCK as u64);
                            (result, buf)
                        });
                        let result;
                        (result, buf) = read.await.expect("a read's thread ends well");
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

fn copy(from: &Path, to: &Path) -> Done {
    let (from, to) = (from.to_owned(), to.to_owned());
    runtime().block_on(async move {
        let mut from = File::open(from).await.expect("the source opens");
        let mut to = File::create(to).await.expect("the copy can be made");
        let watch = Stopwatch::start();
        let mut buf = vec![0; http::CHUNK];
        let mut copied = 0;
        loop {
            let read = from.read(&mut buf).await.expect("a read works");
            if read == 0 {
                break;
            }
            to.write_all(&buf[..read]).await.expect("a write works");
            copied += read as u64;
        }
        to.flush().await.expect("a write works");
        watch.stop(copied)
    })
}

impl Runtime for CurrentThread {
    fn block_on<F: Future + 'static>(future: F) -> F::Output
    where
        F::Output: 'static,
    {
        runtime().block_on(LocalSet::new().run_until(future))
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
    where
        F::Output: 'static,
    {
        let task = tokio::task::spawn_local(future);
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
