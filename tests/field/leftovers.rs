//! What is dropped leaves nothing behind: no permit, no waker, no panic, no value out of sight.

use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use corio::sync::local::{Notify, mpsc, oneshot};
use corio::{spawn, yield_now};

use crate::harness::{OnDrop, Outcome};

every_driver! {
    a_panic_in_the_destructor_of_an_output_does_not_reach_who_drops_the_handle,
    destructors_see_the_task_locals_of_their_future,
    a_future_that_is_dropped_by_a_reader_of_its_task_local_is_dropped,
}

/// A waker that can be counted.
struct Counted;

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

fn poll_with<F: Future + ?Sized>(waker: &Waker, future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[test]
fn a_dropped_waiter_of_notify_all_leaves_no_permit() {
    let notify = Notify::new();
    let mut one = Box::pin(notify.notified());
    let mut two = Box::pin(notify.notified());
    assert!(poll_with(Waker::noop(), one.as_mut()).is_pending());
    assert!(poll_with(Waker::noop(), two.as_mut()).is_pending());
    notify.notify_all();
    drop(one);
    assert!(poll_with(Waker::noop(), two.as_mut()).is_ready());
    assert!(poll_with(Waker::noop(), pin!(notify.notified())).is_pending());
}

#[test]
fn a_dropped_waiter_of_notify_one_passes_the_permit_on() {
    let notify = Notify::new();
    let mut one = Box::pin(notify.notified());
    assert!(poll_with(Waker::noop(), one.as_mut()).is_pending());
    notify.notify_one();
    drop(one);
    assert!(poll_with(Waker::noop(), pin!(notify.notified())).is_ready());
}

#[test]
fn a_dropped_receiver_keeps_no_waker() {
    let own = Arc::new(Counted);
    let waker = Waker::from(own.clone());
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    drop(receiver);
    let (once, mut receiver) = oneshot::channel::<u32>();
    assert!(poll_with(&waker, Pin::new(&mut receiver)).is_pending());
    drop((receiver, waker));
    assert_eq!(Arc::strong_count(&own), 1);
    assert!(sender.is_closed() && once.is_closed());
}

async fn a_panic_in_the_destructor_of_an_output_does_not_reach_who_drops_the_handle() -> Outcome {
    let dropped = Rc::new(Cell::new(0));
    for ended in [true, false] {
        let count = dropped.clone();
        let task = spawn(async move {
            OnDrop(move || {
                count.set(count.get() + 1);
                panic!("in a destructor");
            })
        });
        if ended {
            yield_now().await;
            assert!(task.is_finished());
        }
        drop(task);
        yield_now().await;
    }
    assert_eq!(dropped.get(), 2);
    Ok(())
}

corio::task_local! {
    static NAME: &'static str;
}

/// Records the value of `NAME` when dropped.
fn witness(seen: &Rc<Cell<Option<&'static str>>>) -> OnDrop<impl FnMut() + use<>> {
    let seen = seen.clone();
    OnDrop(move || seen.set(NAME.try_with(|name| *name)))
}

async fn destructors_see_the_task_locals_of_their_future() -> Outcome {
    // Of a cancelled task, of one that was never polled, and of a future that was polled once.
    for polled in [true, false] {
        let seen = Rc::new(Cell::new(None));
        let witness = witness(&seen);
        let task = spawn(NAME.scope("inner", async move {
            let _witness = witness;
            std::future::pending::<()>().await
        }));
        if polled {
            yield_now().await;
        }
        task.cancel();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(seen.get(), Some("inner"), "polled: {polled}");
    }
    let seen = Rc::new(Cell::new(None));
    let future = NAME.scope("inner", {
        let witness = witness(&seen);
        async move { drop(witness) }
    });
    NAME.scope("outer", async move {
        drop(future);
        assert_eq!(NAME.get(), "outer");
    })
    .await;
    assert_eq!(seen.get(), Some("inner"));
    Ok(())
}

async fn a_future_that_is_dropped_by_a_reader_of_its_task_local_is_dropped() -> Outcome {
    let seen = Rc::new(Cell::new(Some("nothing")));
    let future = NAME.scope("inner", {
        let witness = witness(&seen);
        async move { drop(witness) }
    });
    NAME.scope("outer", async move { NAME.with(move |_| drop(future)) }).await;
    assert_eq!(seen.get(), Some("outer"));
    Ok(())
}

#[test]
fn handles_may_be_used_after_a_caught_panic() {
    fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<corio::fs::File>();
    check::<corio::net::TcpListener>();
    check::<corio::net::TcpStream>();
    check::<corio::net::UdpSocket>();
    check::<corio::net::Stream>();
    check::<corio::net::Socket>();
    check::<corio::Handle>();
    check::<corio::JoinHandle<Cell<u32>>>();
    check::<corio::sync::mpsc::Sender<Cell<u32>>>();
    check::<corio::sync::mpsc::Receiver<Cell<u32>>>();
    check::<corio::sync::oneshot::Sender<Cell<u32>>>();
    check::<corio::sync::oneshot::Receiver<Cell<u32>>>();
    check::<mpsc::Sender<Cell<u32>>>();
    check::<mpsc::Receiver<Cell<u32>>>();
    check::<oneshot::Sender<Cell<u32>>>();
    check::<oneshot::Receiver<Cell<u32>>>();
    check::<Notify>();
    check::<corio::sync::local::Semaphore>();
    check::<corio::sync::local::Barrier>();
    let (sender, mut receiver) = mpsc::channel(1);
    let caught = catch_unwind(|| {
        sender.try_send(1).unwrap();
        panic!("between two calls");
    });
    assert!(caught.is_err());
    assert_eq!(receiver.try_recv(), Ok(1));
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_address_has_a_name() -> std::io::Result<()> {
    use corio::net::SocketAddress;
    assert_eq!(SocketAddress::unix("\0name")?.to_string(), "@name");
    assert_eq!(SocketAddress::unix("\0a\0\n")?.to_string(), r"@a\x00\n");
    Ok(())
}
