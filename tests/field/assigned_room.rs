//! Room that was assigned to a future which is leaked, or not polled again, is not lost to others.

use std::sync::mpsc as std_mpsc;

use corio::blocking::BlockingPool;
use corio::sync::mpsc::{self, TrySendError};
use corio::{sleep, timeout, yield_now};

use crate::harness::{LONG, Outcome, SHORT, eventually, poll_now};

every_driver! {
    a_leaked_sender_does_not_keep_its_slot,
    a_sender_that_is_not_polled_does_not_keep_its_slot,
    a_slot_that_is_not_used_can_be_had_without_waiting,
    a_sender_that_lost_its_slot_gets_the_next,
    a_sender_gets_its_slot_before_one_that_came_later,
    a_leaked_job_does_not_keep_its_place_in_the_queue,
}

async fn a_leaked_sender_does_not_keep_its_slot() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0)?;
    let mut leaked = Box::pin(sender.send(1));
    assert!(poll_now(&mut leaked).await.is_pending());
    std::mem::forget(leaked);
    // One waits already, one comes after the slot was assigned.
    let mut second = Box::pin(sender.send(2));
    assert!(poll_now(&mut second).await.is_pending());
    assert_eq!(receiver.recv().await, Some(0));
    timeout(LONG, second).await??;
    assert_eq!(receiver.recv().await, Some(2));
    timeout(LONG, sender.send(3)).await??;
    assert_eq!(receiver.recv().await, Some(3));
    // It is no longer in the way.
    sender.try_send(4)?;
    Ok(())
}

async fn a_sender_that_is_not_polled_does_not_keep_its_slot() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0)?;
    let mut idle = Box::pin(sender.send(1));
    assert!(poll_now(&mut idle).await.is_pending());
    assert_eq!(receiver.recv().await, Some(0));
    timeout(LONG, sender.send(2)).await??;
    assert!(poll_now(&mut idle).await.is_pending());
    assert_eq!(receiver.recv().await, Some(2));
    timeout(LONG, idle).await??;
    assert_eq!(receiver.recv().await, Some(1));
    Ok(())
}

async fn a_slot_that_is_not_used_can_be_had_without_waiting() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0)?;
    let mut leaked = Box::pin(sender.send(1));
    assert!(poll_now(&mut leaked).await.is_pending());
    std::mem::forget(leaked);
    assert_eq!(receiver.recv().await, Some(0));
    for _ in 0..1000 {
        match sender.try_send(2) {
            Err(TrySendError::Full(_)) => sleep(SHORT).await,
            sent => {
                sent?;
                assert_eq!(receiver.recv().await, Some(2));
                return Ok(());
            }
        }
    }
    Err("the channel is empty, and full for ever".into())
}

async fn a_sender_that_lost_its_slot_gets_the_next() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0)?;
    let mut slow = Box::pin(sender.send(1));
    assert!(poll_now(&mut slow).await.is_pending());
    assert_eq!(receiver.recv().await, Some(0));
    timeout(LONG, sender.send(2)).await??;
    assert!(poll_now(&mut slow).await.is_pending());
    let mut later = Box::pin(sender.send(3));
    assert!(poll_now(&mut later).await.is_pending());
    assert_eq!(receiver.recv().await, Some(2));
    assert!(poll_now(&mut later).await.is_pending(), "it came later");
    assert!(poll_now(&mut slow).await.is_ready());
    assert_eq!(receiver.recv().await, Some(1));
    timeout(LONG, later).await??;
    Ok(())
}

async fn a_sender_gets_its_slot_before_one_that_came_later() -> Outcome {
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(0)?;
    let tasks: Vec<_> = (1..=50)
        .map(|n| {
            let sender = sender.clone();
            corio::spawn(async move { sender.send(n).await })
        })
        .collect();
    yield_now().await;
    for n in 0..=50 {
        assert_eq!(receiver.recv().await, Some(n));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn a_leaked_job_does_not_keep_its_place_in_the_queue() -> Outcome {
    let pool: &'static BlockingPool =
        Box::leak(Box::new(BlockingPool::builder().threads(1).queue(1).build()));
    let (go, gone) = std_mpsc::channel::<()>();
    let mut first = Box::pin(pool.run(move || gone.recv().is_err()));
    assert!(poll_now(&mut first).await.is_pending());
    eventually("the first job runs", || pool.queued() == 0);
    let second = pool.run(|| ());
    let mut leaked = Box::pin(pool.run(|| ()));
    assert!(poll_now(&mut leaked).await.is_pending());
    std::mem::forget(leaked);
    drop(go);
    assert!(first.await?);
    second.await?;
    timeout(LONG, pool.run(|| ())).await??;
    Ok(())
}
