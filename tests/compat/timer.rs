//! hyper's timer, whose sleeps may be used on any thread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use corio::compat::hyper::Timer;
use hyper::rt::{Sleep, Timer as _};

use crate::harness::{Case, LONG, Outcome, poll_now};

every_driver! {
    a_sleep_ends_at_its_time_and_can_be_reset,
    a_sleep_that_has_begun_is_reset_and_dropped_elsewhere;
    cases:
    a_sleep_is_polled_without_a_context,
    a_sleep_goes_on_in_another_context,
}

async fn a_sleep_ends_at_its_time_and_can_be_reset() -> Outcome {
    let timer = Timer::new();
    let began = Instant::now();
    timer.sleep(Duration::from_millis(5)).await;
    assert!(began.elapsed() >= Duration::from_millis(5));
    let mut sleep = timer.sleep(LONG);
    assert!(poll_now(&mut sleep).await.is_pending());
    timer.reset(&mut sleep, Instant::now() + Duration::from_millis(5));
    sleep.await;
    // A time that no clock reaches.
    assert!(poll_now(&mut timer.sleep(Duration::MAX)).await.is_pending());
    Ok(())
}

async fn a_sleep_that_has_begun_is_reset_and_dropped_elsewhere() -> Outcome {
    let timer = Timer::new();
    let (mut one, mut other) = (timer.sleep(LONG), timer.sleep(LONG));
    assert!(poll_now(&mut one).await.is_pending());
    assert!(poll_now(&mut other).await.is_pending());
    let there = timer.clone();
    let one = thread::spawn(move || {
        drop(other);
        there.reset(&mut one, Instant::now() + Duration::from_millis(5));
        one
    });
    one.join().expect("no panic").await;
    Ok(())
}

/// The timer's context has to run for that.
fn a_sleep_is_polled_without_a_context(case: Case) -> Outcome {
    let mut context = case.context();
    let timer = context.block_on(async { Timer::new() });
    let sleep = timer.sleep(Duration::from_millis(5));
    let (done, is_done) = corio::sync::oneshot::channel();
    let elsewhere = thread::spawn(move || {
        wait(sleep);
        let _ = done.send(());
    });
    context.block_on(is_done)?;
    elsewhere.join().expect("no panic");
    Ok(())
}

fn a_sleep_goes_on_in_another_context(case: Case) -> Outcome {
    let builder = case.driver.builder();
    let first = thread::spawn(move || {
        let mut context = builder.build().expect("a context");
        let mut sleep = context.block_on(async { Timer::new() }).sleep(Duration::from_millis(5));
        assert!(context.block_on(poll_now(&mut sleep)).is_pending());
        sleep
    });
    let sleep = first.join().expect("no panic");
    case.context().block_on(sleep);
    Ok(())
}

/// Another executor: waits on a plain thread.
fn wait(mut sleep: Pin<Box<dyn Sleep>>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}
