//! glommio, with its defaults.

// # Why this file has `unsafe`
// glommio takes an existing listener by its fd only.

use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};
use glommio::io::{BufferedFile, DmaFile};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::peer::Peer;
use super::tasks::{self, Receives, ReceivesHere, Runtime, Sends, SendsHere};
use crate::http;
use crate::program::{BLOCK, Done, Reads, Stopwatch, check_block};

struct Default;

pub(super) fn peers() -> Vec<Peer> {
    vec![Peer {
        name: "glommio",
        settings: "default",
        echo,
        http: hello,
        files: Some(files),
        reads: Some(reads),
        copy: Some(copy),
        tasks: Some(tasks::tasks::<Default>()),
    }]
}

fn executor() -> LocalExecutor {
    LocalExecutorBuilder::new(Placement::Unbound).make().expect("an executor can be made")
}

fn accept<F: Future<Output = io::Result<()>> + 'static>(
    listener: StdListener,
    serve: impl Fn(TcpStream) -> F,
) {
    executor().run(async move {
        // SAFETY: `into_raw_fd` has given up the listener, so nothing else owns the fd.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        while let Ok(stream) = listener.accept().await {
            glommio::spawn_local(serve(stream)).detach();
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
        let (mut chunk, mut input) = (vec![0; 4096], Vec::new());
        let mut output = Vec::with_capacity(4096);
        loop {
            let received = stream.read(&mut chunk).await?;
            if received == 0 {
                return Ok(());
            }
            input.extend_from_slice(&chunk[..received]);
            http::answer_hello(&mut input, &mut output);
            stream.write_all(&output).await?;
            output.clear();
        }
    });
}

fn files(listener: StdListener, root: PathBuf) {
    let root = Rc::new(root);
    accept(listener, move |mut stream| {
        let root = root.clone();
        async move {
            let (mut chunk, mut input) = (vec![0; 4096], Vec::new());
            let mut head = Vec::with_capacity(256);
            loop {
                let received = stream.read(&mut chunk).await?;
                if received == 0 {
                    return Ok(());
                }
                input.extend_from_slice(&chunk[..received]);
                while let Some(path) = http::take_file_request(&mut input, &root) {
                    let file = BufferedFile::open(path).await.expect("the file opens");
                    let len = file.file_size().await.expect("the file has a size");
                    head.clear();
                    http::head(&mut head, len);
                    stream.write_all(&head).await?;
                    let mut at = 0;
                    while at < len {
                        let body = file.read_at(at, http::CHUNK).await.expect("a read works");
                        at += body.len() as u64;
                        stream.write_all(&body).await?;
                    }
                    file.close().await.expect("a file can be closed");
                }
            }
        }
    });
}

fn reads(reads: Reads) -> Done {
    executor().run(async move {
        let buffered = match reads.direct {
            false => Some(BufferedFile::open(&reads.file).await.expect("the file opens")),
            true => None,
        };
        let direct = match reads.direct {
            true => Some(DmaFile::open(&reads.file).await.expect("the file opens")),
            false => None,
        };
        let file = Rc::new((buffered, direct));
        let watch = Stopwatch::start();
        let readers: Vec<_> = (0..reads.depth)
            .map(|reader| {
                let (file, blocks) = (file.clone(), reads.blocks(reader));
                glommio::spawn_local(async move {
                    for block in blocks {
                        let at = block * BLOCK as u64;
                        let bytes = match &*file {
                            (Some(file), _) => file.read_at(at, BLOCK).await,
                            (None, Some(file)) => file.read_at_aligned(at, BLOCK).await,
                            (None, None) => unreachable!("one of the two was opened"),
                        };
                        check_block(&bytes.expect("a read works"), block);
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await;
        }
        let done = watch.stop(reads.count());
        let (buffered, direct) = Rc::into_inner(file).expect("the readers are gone");
        if let Some(file) = buffered {
            file.close().await.expect("a file can be closed");
        }
        if let Some(file) = direct {
            file.close().await.expect("a file can be closed");
        }
        done
    })
}

fn copy(from: &Path, to: &Path) -> Done {
    let (from, to) = (from.to_owned(), to.to_owned());
    executor().run(async move {
        let from = BufferedFile::open(from).await.expect("the source opens");
        let to = BufferedFile::create(to).await.expect("the copy can be made");
        let watch = Stopwatch::start();
        let mut at = 0;
        loop {
            let bytes = from.read_at(at, http::CHUNK).await.expect("a read works");
            if bytes.is_empty() {
                break;
            }
            // glommio writes vectors only.
            let written = to.write_at(bytes.to_vec(), at).await.expect("a write works");
            assert_eq!(written, bytes.len(), "a short write");
            at += written as u64;
        }
        let done = watch.stop(at);
        from.close().await.expect("a file can be closed");
        to.close().await.expect("a file can be closed");
        done
    })
}

impl Runtime for Default {
    fn block_on<F: Future + 'static>(future: F) -> F::Output
    where
        F::Output: 'static,
    {
        executor().run(future)
    }

    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
    where
        F::Output: 'static,
    {
        glommio::spawn_local(future)
    }

    async fn sleep(duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    async fn yield_now() {
        glommio::executor().yield_now().await;
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>) {
        new_bounded(capacity)
    }
}

impl<T: Send + 'static> Sends<T> for SharedSender<T> {
    async fn attach(self) -> impl SendsHere<T> + 'static {
        self.connect().await
    }
}

impl<T: Send + 'static> SendsHere<T> for ConnectedSender<T> {
    async fn send(&mut self, value: T) {
        assert!(ConnectedSender::send(self, value).await.is_ok(), "the receiver is there");
    }
}

impl<T: Send + 'static> Receives<T> for SharedReceiver<T> {
    async fn attach(self) -> impl ReceivesHere<T> + 'static {
        self.connect().await
    }
}

impl<T: Send + 'static> ReceivesHere<T> for ConnectedReceiver<T> {
    async fn recv(&mut self) -> Option<T> {
        ConnectedReceiver::recv(self).await
    }
}
