//! The queue by itself: who is woken, what is counted; and models of it, run by loom as those of
//! `runtime/models.rs` are.

use super::*;
use crate::driver::Notify;

struct Bell;

impl Notify for Bell {
    fn notify(&self) {}
}

/// A context that nobody runs.
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

    struct Seat {
        server: Server<u32>,
        context: Arc<Remote>,
        woken: Arc<Woken>,
    }

    impl Seat {
        fn new(queue: &Arc<Queue<u32>>) -> Self {
            let mut seat =
                Seat { server: queue.serve(), context: context(), woken: Arc::default() };
            assert!(seat.look().is_pending());
            seat
        }

        fn look(&mut self) -> Poll<Option<u32>> {
            let waker = Waker::from(self.woken.clone());
            self.server.poll_take(&mut Context::from_waker(&waker), &self.context)
        }
    }

    fn bring(queue: &Queue<u32>, job: u32) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut queue.room()).poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(queue.push(job).is_ok());
    }

    fn woken<const N: usize>(seats: &[Seat; N]) -> [usize; N] {
        std::array::from_fn(|seat| seats[seat].woken.take())
    }

    #[test]
    fn each_job_wakes_one_who_sleeps() {
        let queue = Queue::new(9);
        let mut seats: [Seat; 3] = std::array::from_fn(|_| Seat::new(&queue));
        assert!(seats[1].context.fall_asleep() && seats[2].context.fall_asleep());
        bring(&queue, 1);
        assert_eq!(woken(&seats), [0, 1, 0], "not who is awake, and not all who sleep");
        bring(&queue, 2);
        assert_eq!(woken(&seats), [0, 0, 1]);
        // Whoever is awake is left: it is told as well, and whoever comes first takes the job.
        bring(&queue, 3);
        assert_eq!(woken(&seats), [1, 0, 0]);
        assert_eq!(seats[2].look(), Poll::Ready(Some(1)));
        assert_eq!(seats[1].look(), Poll::Ready(Some(2)));
        assert!(seats[2].look() == Poll::Ready(Some(3)) && seats[2].look().is_pending());
        assert!(seats[0].look().is_pending());
        assert_eq!(woken(&seats), [0, 0, 0]);
    }

    #[test]
    fn all_are_woken_if_none_sleeps() {
        let queue = Queue::new(9);
        let seats: [Seat; 3] = std::array::from_fn(|_| Seat::new(&queue));
        bring(&queue, 1);
        assert_eq!(woken(&seats), [1, 1, 1]);
    }

    #[test]
    fn a_wake_is_passed_on_by_one_who_goes() {
        let queue = Queue::new(9);
        let [first, second] = std::array::from_fn(|_| Seat::new(&queue));
        assert!(first.context.fall_asleep());
        bring(&queue, 1);
        assert_eq!((first.woken.take(), second.woken.take()), (1, 0));
        drop(first);
        assert_eq!(second.woken.take(), 1);
    }

    #[test]
    fn places_are_counted() {
        let queue = Queue::<u32>::new(2);
        let mut seat = Seat::new(&queue);
        bring(&queue, 1);
        bring(&queue, 2);
        let woken: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
        let mut rooms: [_; 3] = std::array::from_fn(|_| Some(queue.room()));
        let mut poll = |n: usize| {
            let waker = Waker::from(woken[n].clone());
            Pin::new(rooms[n].as_mut().unwrap()).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!(!poll(0) && !poll(1) && !poll(2));
        // The place goes to the first; the second does not slip in.
        assert_eq!(seat.look(), Poll::Ready(Some(1)));
        assert!(!poll(1) && woken[0].take() == 1 && woken[1].take() == 0);
        rooms[0] = None;
        assert_eq!(woken[1].take(), 1, "who goes gives its place to the next");
        queue.close();
        assert_eq!(woken[2].take(), 1);
        drop(rooms);
        assert_eq!(queue.lock().promised, 0);
        assert!(queue.lock().waiting.is_empty());
        assert_eq!(seat.look(), Poll::Ready(None));
    }
}

#[cfg(loom)]
mod models {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// All schedules with at most three switches that nothing forces.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    fn bring(queue: &Queue<u32>, job: u32) -> bool {
        block_on(queue.room()).is_ok() && queue.push(job).is_ok()
    }

    fn take(server: &mut Server<u32>) -> Option<u32> {
        let context = context();
        block_on(poll_fn(|cx| server.poll_take(cx, &context)))
    }

    #[test]
    fn a_job_that_comes_while_its_server_falls_idle_is_taken() {
        model(|| {
            let queue = Queue::new(1);
            let mut server = queue.serve();
            let brings = thread::spawn(move || {
                // The second waits for the place of the first.
                assert!(bring(&queue, 1) && bring(&queue, 2));
            });
            assert_eq!((take(&mut server), take(&mut server)), (Some(1), Some(2)));
            brings.join().unwrap();
        });
    }

    #[test]
    fn a_server_that_goes_leaves_its_job_to_the_other() {
        model(|| {
            let queue = Queue::new(1);
            let (mut stays, mut goes) = (queue.serve(), queue.serve());
            let leaving = thread::spawn(move || {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let taken = goes.poll_take(&mut cx, &context());
                drop(goes);
                taken.is_ready()
            });
            let brings = {
                let queue = queue.clone();
                thread::spawn(move || {
                    assert!(bring(&queue, 1));
                    // For the one who did not get it.
                    bring(&queue, 2);
                })
            };
            assert!(take(&mut stays).is_some());
            brings.join().unwrap();
            leaving.join().unwrap();
        });
    }

    #[test]
    fn nobody_waits_for_those_who_are_gone() {
        model(|| {
            let queue = Queue::new(1);
            let server = queue.serve();
            let brings = {
                let queue = queue.clone();
                thread::spawn(move || bring(&queue, 1) && bring(&queue, 2))
            };
            drop(server);
            // Both may come too late, but neither hangs.
            assert!(!brings.join().unwrap());
            assert_eq!(queue.len(), 0);
        });
    }

    #[test]
    fn a_close_ends_a_server_that_falls_idle() {
        model(|| {
            let queue = Queue::<u32>::new(1);
            let mut server = queue.serve();
            let closes = thread::spawn(move || queue.close());
            assert_eq!(take(&mut server), None);
            closes.join().unwrap();
        });
    }
}
