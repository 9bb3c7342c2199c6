//! A realistic piece of code, dropped or leaked at each of its awaits in turn.

// # Why this file has `unsafe`
// Its buffers detect writes that come after their end, for which they implement `IoBufMut`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use corio::buf::{IoBuf, IoBufMut};
use corio::fs::File;
use corio::net::{TcpListener, TcpStream};
use corio::op::AsyncNop;
use corio::{Builder, DropPolicy, race, sleep, spawn, timeout, yield_now};

use crate::harness::{SHORT, alone, open_fds};

/// The contents of memory that must not be written to any more.
const CANARY: u8 = 0xc7;

/// Memory of buffers, which is kept when they are dropped.
#[derive(Clone, Default)]
struct Yard(Rc<RefCell<Blocks>>);

/// Each block, and whether its buffer was dropped.
#[derive(Default)]
struct Blocks(Vec<(*mut [u8], bool)>);

impl Drop for Blocks {
    fn drop(&mut self) {
        for &(memory, _) in &self.0 {
            // SAFETY: made from a box by `Yard::buffer`, and no buffer is left.
            drop(unsafe { Box::from_raw(memory) });
        }
    }
}

/// A buffer whose memory is filled with canaries when it is dropped, and watched from then on.
struct Watched {
    yard: Yard,
    index: usize,
    memory: *mut [u8],
    len: usize,
}

impl Yard {
    fn buffer(&self, len: usize) -> Watched {
        let memory = Box::into_raw(vec![1_u8; len].into_boxed_slice());
        let blocks = &mut self.0.borrow_mut().0;
        blocks.push((memory, false));
        Watched { yard: self.clone(), index: blocks.len() - 1, memory, len }
    }

    /// Checks that no memory was written to after its buffer was dropped.
    fn check(&self) -> usize {
        let blocks = &self.0.borrow().0;
        let dropped = blocks.iter().filter(|(_, dropped)| *dropped);
        dropped
            .inspect(|(memory, _)| {
                // SAFETY: the yard frees nothing before its own end.
                let bytes = unsafe { &**memory };
                assert!(bytes.iter().all(|&byte| byte == CANARY), "written to after its drop");
            })
            .count()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: this buffer's own memory, which nothing else uses by the traits' rules.
        unsafe { (*self.memory).fill(CANARY) };
        self.yard.0.borrow_mut().0[self.index].1 = true;
    }
}

// SAFETY: the memory is initialised and never moves.
unsafe impl IoBuf for Watched {
    fn buf_ptr(&self) -> *const u8 {
        self.memory.cast()
    }
    fn buf_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above; it is written through a raw pointer only.
unsafe impl IoBufMut for Watched {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        self.memory.cast()
    }
    fn buf_capacity(&self) -> usize {
        self.memory.len()
    }
    unsafe fn set_filled(&mut self, _n: usize) {}
}

/// Files, sockets, timers, races and tasks, with an echo server as peer.
async fn scenario(yard: Yard, directory: std::path::PathBuf) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server_yard = yard.clone();
    let server = spawn(async move {
        let (stream, _) = listener.accept().await?;
        loop {
            let (result, buf) = stream.recv(server_yard.buffer(512)).await;
            if result? == 0 {
                return std::io::Result::Ok(());
            }
            stream.send_all(buf).await.0?;
        }
    });
    let client = TcpStream::connect(address).await?;
    client.send_all(yard.buffer(512)).await.0?;
    client.recv_exact(yard.buffer(512)).await.0?;

    let path = directory.join("file");
    let file = File::create(&path).await?;
    file.write_all_at(yard.buffer(8192), 0).await.0?;
    file.sync_data().await?;
    file.close().await?;
    let file = File::open(&path).await?;
    file.read_exact_at(yard.buffer(8192), 0).await.0?;
    client.send_file(&file, 0, 2048).await?;
    client.recv_exact(yard.buffer(2048)).await.0?;

    match race(client.recv(yard.buffer(64)), sleep(SHORT)).await {
        corio::RaceOutput::Second(Some((Err(_), _)), ()) => {}
        // Another task cancels all of this.
        corio::RaceOutput::First((Err(error), _), _) => return Err(error),
        _ => panic!("nothing was sent"),
    }
    let nested = timeout(
        SHORT,
        race(
            async {
                loop {
                    let _ = client.recv(yard.buffer(64)).await;
                }
            },
            race(client.recv(yard.buffer(64)), AsyncNop::new()),
        ),
    );
    let _ = nested.await.map(|raced: corio::RaceOutput<(), _>| drop(raced));
    let (result, _) = client.recv(yard.buffer(64)).with_timeout(SHORT).await;
    match result.expect_err("nothing was sent") {
        error if error.kind() == std::io::ErrorKind::TimedOut => {}
        error => return Err(error),
    }

    let inner_yard = yard.clone();
    let nested = spawn(async move {
        let inner = spawn(async move {
            yield_now().await;
            AsyncNop::new().await.map(|()| drop(inner_yard))
        });
        inner.await.unwrap()
    });
    nested.await.unwrap()?;
    client.send_all(yard.buffer(512)).await.0?;
    client.recv_exact(yard.buffer(512)).await.0?;
    client.shutdown(std::net::Shutdown::Write).await?;
    server.await.unwrap()
}

/// Polls `future` at most `polls` times; returns it if it is not done by then.
async fn poll_times<F: Future>(mut future: Pin<Box<F>>, polls: u32) -> Option<Pin<Box<F>>> {
    let left = Cell::new(polls);
    let done = poll_fn(|cx| {
        if left.get() == 0 {
            return Poll::Ready(false);
        }
        left.set(left.get() - 1);
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left.get() == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    (!done).then_some(future)
}

/// Does some work that must still succeed on the same context.
async fn life_goes_on() {
    let nap = spawn(sleep(SHORT));
    for _ in 0..3 {
        AsyncNop::new().await.unwrap();
    }
    nap.await.unwrap();
}

/// Stops the scenario after one poll, two polls, and so on until it gets to its end.
fn at_every_await<F: Future>(
    builder: &Builder,
    make: impl Fn(&Yard, &std::path::Path) -> F,
    end: impl Fn(Pin<Box<F>>),
    mut each: impl FnMut(),
) {
    let directory = tempfile::tempdir().unwrap();
    for polls in 1.. {
        assert!(polls < 1000, "the scenario does not end");
        let yard = Yard::default();
        let mut context = builder.build().unwrap();
        let finished = context.block_on(async {
            let scenario = Box::pin(make(&yard, directory.path()));
            let rest = poll_times(scenario, polls).await;
            let finished = rest.is_none();
            rest.map(&end);
            life_goes_on().await;
            finished
        });
        yard.check();
        context.block_on(life_goes_on());
        drop(context);
        let dropped = yard.check();
        each();
        if finished {
            assert!(dropped >= 10, "the scenario used its buffers");
            assert!(polls > 15, "the scenario has awaits");
            return;
        }
    }
}

every_driver! {
    fn dropping_at_every_await_is_harmless(builder) {
        alone(|| {
            let builder = builder.drop_policy(DropPolicy::CancelAndWait);
            let before = open_fds();
            at_every_await(
                &builder,
                |yard, path| scenario(yard.clone(), path.into()),
                drop,
                || assert_eq!(open_fds(), before),
            );
        });
    }

    fn cancelling_at_every_await_is_harmless(builder) {
        alone(|| {
            let before = open_fds();
            let directory = tempfile::tempdir().unwrap();
            for polls in 0.. {
                assert!(polls < 1000, "the scenario does not end");
                let yard = Yard::default();
                let mut context = builder.build().unwrap();
                let finished = context.block_on(async {
                    let scenario = Box::pin(scenario(yard.clone(), directory.path().into()));
                    let stopped = crate::harness::Event::default();
                    let signal = stopped.clone();
                    let task = spawn(async move {
                        let rest = poll_times(scenario, polls).await;
                        signal.signal();
                        match rest {
                            Some(rest) => rest.await,
                            None => Ok(()),
                        }
                    });
                    stopped.wait().await;
                    task.cancel();
                    // The task has ended by itself, or by the cancellation.
                    let finished = matches!(task.await, Ok(Ok(())));
                    life_goes_on().await;
                    finished
                });
                drop(context);
                yard.check();
                assert_eq!(open_fds(), before);
                if finished {
                    assert!(polls > 15, "the scenario has awaits");
                    return;
                }
            }
        });
    }

    fn timing_out_at_every_await_is_harmless(builder) {
        alone(|| {
            let before = open_fds();
            let directory = tempfile::tempdir().unwrap();
            for turns in 0..60 {
                let yard = Yard::default();
                let mut context = builder.build().unwrap();
                context.block_on(async {
                    let pause = async {
                        for _ in 0..turns {
                            yield_now().await;
                        }
                    };
                    let raced = race(scenario(yard.clone(), directory.path().into()), pause).await;
                    if let corio::RaceOutput::First(result, _) = raced {
                        result.unwrap();
                    }
                    life_goes_on().await;
                });
                drop(context);
                yard.check();
                assert_eq!(open_fds(), before, "after {turns} turns");
            }
        });
    }

    fn leaking_at_every_await_is_harmless(builder) {
        alone(|| {
            at_every_await(
                &builder,
                |yard, path| scenario(yard.clone(), path.into()),
                std::mem::forget,
                || {},
            );
        });
    }
}
