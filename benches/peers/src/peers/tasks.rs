//! Tasks, timers and messages: all runtimes have the calls, so the programs are the same.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::peer::Tasks;
use crate::program::{Done, Stopwatch};

/// A runtime with its settings.
pub(super) trait Runtime: 'static {
    /// Runs a future on a new context of this thread.
    fn block_on<F: Future + 'static>(future: F) -> F::Output
    where
        F::Output: 'static;

    /// Spawns a task; the returned future waits for its output.
    fn spawn<F: Future + 'static>(future: F) -> impl Future<Output = F::Output> + 'static
    where
        F::Output: 'static;

    fn sleep(duration: Duration) -> impl Future<Output = ()>;

    /// Lets other tasks run.
    fn yield_now() -> impl Future<Output = ()> {
        YieldOnce(false)
    }

    /// A bounded channel for values from one thread to another: the runtime's own, if it has one.
    fn channel<T: Send + 'static>(capacity: usize) -> (impl Sends<T>, impl Receives<T>);
}

/// The sending half of a channel.
pub(super) trait Sends<T>: Send + 'static {
    /// Binds the sender to this thread's context, before the first message.
    fn attach(self) -> impl Future<Output = impl SendsHere<T> + 'static>;
}

/// The sending half, bound to its context.
pub(super) trait SendsHere<T> {
    fn send(&mut self, value: T) -> impl Future<Output = ()>;
}

pub(super) trait Receives<T>: Send + 'static {
    fn attach(self) -> impl Future<Output = impl ReceivesHere<T> + 'static>;
}

pub(super) trait ReceivesHere<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>>;
}

/// A yield for runtimes without their own.
struct YieldOnce(bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The channel of the `futures` crate, for runtimes without their own.
pub(super) mod neutral {
    use futures_channel::mpsc;
    use futures_util::{SinkExt, StreamExt};

    use super::{Receives, ReceivesHere, Sends, SendsHere};

    pub(in super::super) struct Sender<T>(pub(in super::super) mpsc::Sender<T>);
    pub(in super::super) struct Receiver<T>(pub(in super::super) mpsc::Receiver<T>);

    pub(in super::super) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Sender(sender), Receiver(receiver))
    }

    impl<T: Send + 'static> Sends<T> for Sender<T> {
        async fn attach(self) -> impl SendsHere<T> + 'static {
            self
        }
    }

    impl<T> SendsHere<T> for Sender<T> {
        async fn send(&mut self, value: T) {
            // `feed` waits for room, and does not flush after each message.
            self.0.feed(value).await.expect("the receiver is there");
        }
    }

    impl<T: Send + 'static> Receives<T> for Receiver<T> {
        async fn attach(self) -> impl ReceivesHere<T> + 'static {
            self
        }
    }

    impl<T> ReceivesHere<T> for Receiver<T> {
        async fn recv(&mut self) -> Option<T> {
            self.0.next().await
        }
    }
}

pub(super) fn tasks<R: Runtime>() -> Tasks {
    Tasks {
        spawn: spawn::<R>,
        yields: yields::<R>,
        sleep: sleep::<R>,
        timers: timers::<R>,
        channel: channel::<R>,
        wake: wake::<R>,
    }
}

fn spawn<R: Runtime>(tasks: u64, at_once: u64) -> Done {
    R::block_on(async move {
        let mut running = Vec::with_capacity(at_once as usize);
        let watch = Stopwatch::start();
        let mut sum = 0;
        for first in (0..tasks).step_by(at_once as usize) {
            running.extend((first..first + at_once).map(|task| R::spawn(async move { task })));
            for task in running.drain(..) {
                sum += task.await;
            }
        }
        let done = watch.stop(tasks);
        assert_eq!(sum, tasks * (tasks - 1) / 2, "a task's result was lost");
        done
    })
}

fn yields<R: Runtime>(tasks: u64, times: u64) -> Done {
    R::block_on(async move {
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                R::spawn(async move {
                    for _ in 0..times {
                        R::yield_now().await;
                    }
                })
            })
            .collect();
        let watch = Stopwatch::start();
        for task in running {
            task.await;
        }
        watch.stop(tasks * times)
    })
}

fn sleep<R: Runtime>(duration: Duration, times: u64) -> Done {
    R::block_on(async move {
        let watch = Stopwatch::start();
        for _ in 0..times {
            R::sleep(duration).await;
        }
        let done = watch.stop(times);
        assert!(
            u128::from(done.wall_ns) >= duration.as_nanos() * u128::from(times),
            "woken too early"
        );
        done
    })
}

fn timers<R: Runtime>(tasks: u64) -> Done {
    R::block_on(async move {
        let watch = Stopwatch::start();
        let running: Vec<_> = (0..tasks)
            .map(|task| R::spawn(R::sleep(Duration::from_micros(task * 7919 % 100_000))))
            .collect();
        for task in running {
            task.await;
        }
        watch.stop(tasks)
    })
}

/// Runs the sender on a thread that is pinned to the other processor.
fn other_thread(body: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(|| {
        crate::system::pin(1).expect("pinning to processor 1");
        body();
    })
}

fn channel<R: Runtime>(messages: u64) -> Done {
    let (sender, receiver) = R::channel::<u64>(1024);
    let sending = other_thread(move || {
        R::block_on(async move {
            let mut sender = sender.attach().await;
            for message in 0..messages {
                sender.send(message).await;
            }
        });
    });
    let done = R::block_on(async move {
        let mut receiver = receiver.attach().await;
        let mut next = receiver.recv().await.expect("the channel closed before the first message");
        let watch = Stopwatch::start();
        while let Some(message) = receiver.recv().await {
            next += 1;
            assert_eq!(message, next, "out of order");
        }
        assert_eq!(next, messages - 1, "messages were lost");
        watch.stop(messages - 1)
    });
    sending.join().expect("the sender panicked");
    done
}

fn wake<R: Runtime>(round_trips: u64) -> Done {
    let (to, at_other) = R::channel::<u64>(1);
    let (back, from_other) = R::channel::<u64>(1);
    let other = other_thread(move || {
        R::block_on(async move {
            // Attaching may wait for the other end: both sides must begin with the same channel.
            let mut incoming = at_other.attach().await;
            let mut back = back.attach().await;
            while let Some(message) = incoming.recv().await {
                back.send(message).await;
            }
        });
    });
    let done = R::block_on(async move {
        let mut to = to.attach().await;
        let mut incoming = from_other.attach().await;
        let watch = Stopwatch::start();
        for message in 0..round_trips {
            to.send(message).await;
            assert_eq!(incoming.recv().await, Some(message), "the wrong answer");
        }
        watch.stop(round_trips)
    });
    other.join().expect("the other thread panicked");
    done
}
