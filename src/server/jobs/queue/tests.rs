//! Tests of the queue by itself: which consumers are woken, how slots are counted; and its loom
//! models, run as those of `runtime/models.rs` are.

use super::*;
use crate::driver::Notify;

struct Bell;

impl Notify for Bell {
    fn notify(&self) {}
}

/// A context that does not run.
fn context() -> Arc<Remote> {
    Arc::new(Remote::new(Arc::new(Bell)))
}

#[cfg(not(loom))]
mod calls {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts wakes.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    struct TestConsumer {
        consumer: Consumer<u32>,
        context: Arc<Remote>,
        woken: Arc<Woken>,
    }

    impl TestConsumer {
        fn new(queue: &Arc<Queue<u32>>) -> Self {
            let (consumer, context, woken) = (queue.consumer(), context(), Arc::default());
            let mut idle = TestConsumer { consumer, context, woken };
            assert!(idle.poll().is_pending());
            idle
        }

        fn poll(&mut self) -> Poll<Option<u32>> {
            let waker = Waker::from(self.woken.clone());
            self.consumer.poll_take(&mut Context::from_waker(&waker), &self.context)
        }
    }

    fn push(queue: &Queue<u32>, job: u32) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut queue.reserve()).poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(queue.push(job).is_ok());
    }

    fn woken<const N: usize>(consumers: &[TestConsumer; N]) -> [usize; N] {
        std::array::from_fn(|index| consumers[index].woken.take())
    }

    #[test]
    fn each_job_wakes_one_sleeping_consumer() {
        let queue = Queue::new(9);
        let mut consumers: [TestConsumer; 3] = std::array::from_fn(|_| TestConsumer::new(&queue));
        assert!(consumers[1].context.fall_asleep() && consumers[2].context.fall_asleep());
        push(&queue, 1);
        assert_eq!(
            woken(&consumers),
            [0, 1, 0],
            "neither the one that is awake, nor all that sleep"
        );
        push(&queue, 2);
        assert_eq!(woken(&consumers), [0, 0, 1]);
        // The one that is awake is left, and woken as well: the first to look takes the job.
        push(&queue, 3);
        assert_eq!(woken(&consumers), [1, 0, 0]);
        assert_eq!(consumers[2].poll(), Poll::Ready(Some(1)));
        assert_eq!(consumers[1].poll(), Poll::Ready(Some(2)));
        assert!(consumers[2].poll() == Poll::Ready(Some(3)) && consumers[2].poll().is_pending());
        assert!(consumers[0].poll().is_pending());
        assert_eq!(woken(&consumers), [0, 0, 0]);
    }

    #[test]
    fn all_consumers_are_woken_if_none_sleeps() {
        let queue = Queue::new(9);
        let consumers: [TestConsumer; 3] = std::array::from_fn(|_| TestConsumer::new(&queue));
        push(&queue, 1);
        assert_eq!(woken(&consumers), [1, 1, 1]);
    }

    #[test]
    fn a_dropped_consumer_passes_its_wake_up_on() {
        let queue = Queue::new(9);
        let [first, second] = std::array::from_fn(|_| TestConsumer::new(&queue));
        assert!(first.context.fall_asleep());
        push(&queue, 1);
        assert_eq!((first.woken.take(), second.woken.take()), (1, 0));
        drop(first);
        assert_eq!(second.woken.take(), 1);
    }

    #[test]
    fn slots_are_counted() {
        let queue = Queue::<u32>::new(2);
        let mut consumer = TestConsumer::new(&queue);
        push(&queue, 1);
        push(&queue, 2);
        let woken: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
        let mut waits: [_; 3] = std::array::from_fn(|_| Some(queue.reserve()));
        let mut poll = |n: usize| {
            let waker = Waker::from(woken[n].clone());
            Pin::new(waits[n].as_mut().unwrap()).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!(!poll(0) && !poll(1) && !poll(2));
        // The slot goes to the first; the second does not take it.
        assert_eq!(consumer.poll(), Poll::Ready(Some(1)));
        assert_eq!((woken[0].take(), woken[1].take()), (1, 1), "the next is there to see it used");
        assert!(!poll(1));
        woken[1].take();
        waits[0] = None;
        assert_eq!(woken[1].take(), 1, "a dropped wait passes its slot on");
        woken[2].take();
        queue.close();
        assert_eq!(woken[2].take(), 1);
        drop(waits);
        assert_eq!(queue.lock().reserved, 0);
        assert!(queue.lock().waiting.is_empty());
        assert_eq!(consumer.poll(), Poll::Ready(None));
    }
}

#[cfg(loom)]
mod models {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// Checks all schedules with at most three forced preemptions.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    fn push(queue: &Queue<u32>, job: u32) -> bool {
        block_on(queue.reserve()).is_ok() && queue.push(job).is_ok()
    }

    fn take(consumer: &mut Consumer<u32>) -> Option<u32> {
        let context = context();
        block_on(poll_fn(|cx| consumer.poll_take(cx, &context)))
    }

    #[test]
    fn a_job_pushed_while_its_consumer_becomes_idle_is_taken() {
        model(|| {
            let queue = Queue::new(1);
            let mut consumer = queue.consumer();
            let pushing = thread::spawn(move || {
                // The second waits for the slot of the first.
                assert!(push(&queue, 1) && push(&queue, 2));
            });
            assert_eq!((take(&mut consumer), take(&mut consumer)), (Some(1), Some(2)));
            pushing.join().unwrap();
        });
    }

    #[test]
    fn a_dropped_consumer_leaves_its_job_to_the_other() {
        model(|| {
            let queue = Queue::new(1);
            let (mut stays, mut goes) = (queue.consumer(), queue.consumer());
            let leaving = thread::spawn(move || {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let taken = goes.poll_take(&mut cx, &context());
                drop(goes);
                taken.is_ready()
            });
            let pushing = {
                let queue = queue.clone();
                thread::spawn(move || {
                    assert!(push(&queue, 1));
                    // For the consumer that did not get the first.
                    push(&queue, 2);
                })
            };
            assert!(take(&mut stays).is_some());
            pushing.join().unwrap();
            leaving.join().unwrap();
        });
    }

    #[test]
    fn producers_do_not_wait_for_consumers_that_are_gone() {
        model(|| {
            let queue = Queue::new(1);
            let consumer = queue.consumer();
            let pushing = {
                let queue = queue.clone();
                thread::spawn(move || push(&queue, 1) && push(&queue, 2))
            };
            drop(consumer);
            // Both may be refused, but neither hangs.
            assert!(!pushing.join().unwrap());
            assert_eq!(queue.len(), 0);
        });
    }

    #[test]
    fn a_close_ends_a_consumer_that_becomes_idle() {
        model(|| {
            let queue = Queue::<u32>::new(1);
            let mut consumer = queue.consumer();
            let closing = thread::spawn(move || queue.close());
            assert_eq!(take(&mut consumer), None);
            closing.join().unwrap();
        });
    }
}
