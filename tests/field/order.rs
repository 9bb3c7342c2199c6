//! Whole transfers on one handle, which run one after another in the order of their first polls.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use corio::op::AsyncSendfile;
use corio::{race, spawn};

use crate::harness::{
    Case, LocalStream, Outcome, assert_at_rest, assert_kind, corio_tcp_pair, file_with, local_pair,
    poll_now, settle,
};

every_driver! {
    whole_messages_of_two_tasks_do_not_mix,
    messages_and_files_are_sent_in_the_order_of_their_first_polls,
    whole_receives_are_filled_one_after_another,
    a_single_send_waits_for_no_whole_transfer,
    a_transfer_that_waits_can_be_dropped,
    a_transfer_that_waits_has_a_time_limit_of_its_own,
    a_transfer_that_waits_in_a_cancelled_task_ends,
    the_two_directions_do_not_wait_for_each_other,
    a_transfer_that_fails_lets_the_next_run,
    transfers_of_different_registered_files_do_not_wait;
    cases:
    cancelling_everything_reaches_transfers_that_wait,
}

/// Far more than the socket's buffers hold.
const LONG: usize = 1 << 20;

/// Receives `count` messages of `LONG` bytes; returns the byte that each consists of.
async fn messages(stream: &LocalStream, count: usize) -> std::io::Result<Vec<u8>> {
    let mut first = Vec::new();
    for number in 0..count {
        let (result, message) = stream.recv_exact(vec![0; LONG]).await;
        result?;
        assert!(message.iter().all(|byte| *byte == message[0]), "message {number} is mixed");
        first.push(message[0]);
    }
    Ok(first)
}

async fn whole_messages_of_two_tasks_do_not_mix() -> Outcome {
    let (client, server) = corio_tcp_pair()?;
    let client = Rc::new(client);
    let tasks: Vec<_> = (0..2_u8)
        .map(|byte| {
            let client = client.clone();
            spawn(async move {
                for _ in 0..5 {
                    client.send_all(vec![byte; LONG]).await.0?;
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    for _ in 0..10 {
        let (result, message) = server.recv_exact(vec![0; LONG]).await;
        result?;
        assert!(message.iter().all(|byte| *byte == message[0]), "a message is mixed");
    }
    for task in tasks {
        task.await.unwrap()?;
    }
    Ok(())
}

async fn messages_and_files_are_sent_in_the_order_of_their_first_polls() -> Outcome {
    let (a, b) = local_pair()?;
    let file = file_with(&[7; LONG])?;
    let sends = async {
        let mut first = Box::pin(AsyncSendfile::new(&a, &file, 0, LONG as u64));
        let mut second = Box::pin(AsyncSendfile::new(&a, &file, 0, LONG as u64));
        let mut messages: Vec<_> =
            (0..4_u8).map(|byte| Box::pin(a.send_all(vec![byte; LONG]))).collect();
        // Begun in another order than created.
        assert!(poll_now(&mut messages[2]).await.is_pending());
        assert!(poll_now(&mut first).await.is_pending());
        assert!(poll_now(&mut messages[0]).await.is_pending());
        assert!(poll_now(&mut second).await.is_pending());
        assert!(poll_now(&mut messages[1]).await.is_pending());
        let rest = futures_util::future::join_all(messages);
        let (first, second, rest) = futures_util::join!(first, second, rest);
        first?;
        second?;
        for (result, _) in rest {
            result?;
        }
        Ok::<_, std::io::Error>(())
    };
    let (sent, received) = futures_util::join!(sends, messages(&b, 6));
    sent?;
    assert_eq!(received?, [2, 7, 0, 7, 1, 3]);
    Ok(())
}

async fn whole_receives_are_filled_one_after_another() -> Outcome {
    let (a, b) = local_pair()?;
    let mut receives: Vec<_> = (0..4).map(|_| Box::pin(b.recv_exact(vec![0; 100_000]))).collect();
    for receive in &mut receives {
        assert!(poll_now(receive).await.is_pending());
    }
    let sending = spawn(async move {
        for byte in 0..4_u8 {
            for _ in 0..10 {
                a.send_all(vec![byte; 10_000]).await.0?;
                settle().await;
            }
        }
        Ok::<_, std::io::Error>(())
    });
    for (byte, (result, message)) in
        futures_util::future::join_all(receives).await.into_iter().enumerate()
    {
        result?;
        assert!(message.iter().all(|one| usize::from(*one) == byte), "message {byte} is mixed");
    }
    sending.await.unwrap()?;
    Ok(())
}

async fn a_single_send_waits_for_no_whole_transfer() -> Outcome {
    let (a, b) = local_pair()?;
    let mut receive = Box::pin(b.recv_exact([0; 2]));
    assert!(poll_now(&mut receive).await.is_pending());
    let mut single = Box::pin(b.recv([0; 1]));
    assert!(poll_now(&mut single).await.is_pending());
    a.send_all("123").await.0?;
    let ((one, _), (two, _)) = futures_util::join!(single, receive);
    assert_eq!(one?, 1);
    two?;
    Ok(())
}

async fn a_transfer_that_waits_can_be_dropped() -> Outcome {
    let (a, b) = local_pair()?;
    let mut sends: Vec<_> = (0..4_u8).map(|byte| Box::pin(a.send_all(vec![byte; LONG]))).collect();
    for send in &mut sends {
        assert!(poll_now(send).await.is_pending());
    }
    // Neither the first nor the last of those that wait; under the policy to abort.
    drop(sends.remove(2));
    let sends = futures_util::future::join_all(sends);
    let (sent, received) = futures_util::join!(sends, messages(&b, 3));
    assert!(sent.iter().all(|(result, _)| result.is_ok()));
    assert_eq!(received?, [0, 1, 3]);

    // The one whose turn it is, before it is polled.
    let mut first = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut first).await.is_pending());
    let mut second = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut second).await.is_pending());
    let mut third = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut third).await.is_pending());
    a.send_all("x").await.0?;
    first.await.0?;
    drop(second);
    a.send_all("y").await.0?;
    assert_eq!(third.await.1, *b"y");
    Ok(())
}

async fn a_transfer_that_waits_has_a_time_limit_of_its_own() -> Outcome {
    let (a, b) = local_pair()?;
    let mut first = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut first).await.is_pending());
    let second = b.recv_exact([0; 1]).with_timeout(Duration::from_millis(1));
    let (result, _) = second.await;
    assert_kind(result, ErrorKind::TimedOut);
    let limit = Duration::from_millis(1);
    let limited = corio::timeout(limit, async { b.recv_exact([0; 1]).await.0 }).await;
    assert!(!matches!(limited, Ok(Ok(()))));
    let third = race(b.recv_exact([0; 1]), corio::sleep(Duration::from_millis(1)));
    assert!(third.await.second().is_some());
    a.send_all("x").await.0?;
    first.await.0?;
    a.send_all("y").await.0?;
    assert_eq!(b.recv_exact([0; 1]).await.1, *b"y");
    Ok(())
}

async fn a_transfer_that_waits_in_a_cancelled_task_ends() -> Outcome {
    let (a, b) = local_pair()?;
    let b = Rc::new(b);
    let mut first = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut first).await.is_pending());
    let stream = b.clone();
    let waiting = spawn(async move { stream.recv_exact([0; 1]).await.0 });
    settle().await;
    waiting.cancel();
    if let Ok(result) = waiting.await {
        assert!(result.is_err());
    }
    a.send_all("xy").await.0?;
    first.await.0?;
    assert_eq!(b.recv_exact([0; 1]).await.1, *b"y");
    Ok(())
}

async fn the_two_directions_do_not_wait_for_each_other() -> Outcome {
    let (a, b) = local_pair()?;
    let mut receive = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut receive).await.is_pending());
    b.send_all("to a").await.0?;
    let mut other = Box::pin(b.recv_exact([0; 1]));
    assert!(poll_now(&mut other).await.is_pending());
    b.send_all("again").await.0?;
    assert_eq!(a.recv_exact([0; 9]).await.1, *b"to aagain");
    a.send_all("xy").await.0?;
    assert_eq!((receive.await.1, other.await.1), (*b"x", *b"y"));
    Ok(())
}

async fn a_transfer_that_fails_lets_the_next_run() -> Outcome {
    let (a, b) = local_pair()?;
    let mut sends: Vec<_> = (0..3_u8).map(|byte| Box::pin(a.send_all(vec![byte; LONG]))).collect();
    for send in &mut sends {
        assert!(poll_now(send).await.is_pending());
    }
    drop(b);
    for (result, _) in futures_util::future::join_all(sends).await {
        result.expect_err("the peer is gone");
    }
    Ok(())
}

async fn transfers_of_different_registered_files_do_not_wait() -> Outcome {
    let files = corio::op::FixedFiles::register(2)?;
    let ((a, b), (c, d)) = (crate::harness::std_pair()?, crate::harness::std_pair()?);
    let (b, d) = (files.insert(b)?, files.insert(d)?);
    let mut first = Box::pin(corio::op::AsyncRecvExact::new(&b, [0; 2]));
    assert!(poll_now(&mut first).await.is_pending());
    let mut second = Box::pin(corio::op::AsyncRecvExact::new(&b, [0; 2]));
    assert!(poll_now(&mut second).await.is_pending());
    std::io::Write::write_all(&mut &c, b"cd")?;
    assert_eq!(corio::op::AsyncRecvExact::new(&d, [0; 2]).await.1, *b"cd");
    std::io::Write::write_all(&mut &a, b"1")?;
    settle().await;
    std::io::Write::write_all(&mut &a, b"234")?;
    let ((_, one), (_, two)) = futures_util::join!(first, second);
    assert_eq!((one, two), (*b"12", *b"34"));
    Ok(())
}

fn cancelling_everything_reaches_transfers_that_wait(case: Case) -> Outcome {
    let mut context = case.context();
    let (a, b) = local_pair()?;
    let b = Rc::new(b);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let b = b.clone();
            context.spawn(async move { b.recv_exact([0; 1]).await.0 })
        })
        .collect();
    for _ in 0..3 {
        context.poll_once(Some(Duration::ZERO))?;
    }
    assert_eq!(context.cancel_all_pending(), 1, "the others are not in flight");
    let results = context.block_on(futures_util::future::join_all(tasks));
    for result in results {
        let error = result?.unwrap_err();
        assert!(corio::op::is_cancelled(&error), "{error}");
    }
    drop(a);
    // Those that begin later are not.
    let last = context.block_on(async {
        let (a, b) = local_pair()?;
        a.send_all("x").await.0?;
        b.recv_exact([0; 1]).await.0
    });
    last?;
    assert_at_rest(&context);
    Ok(())
}
