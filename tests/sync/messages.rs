//! Raw messages between contexts, and from threads to contexts.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use corio::sync::messages::{Message, ROOM};
use corio::sync::mpsc::{SendError, TryRecvError, TrySendError};
use corio::{Builder, Handle, messages, spawn, timeout, yield_now};

use crate::harness::{Driver, Elsewhere, LONG, eventually, guarded, many};

const ROOM_TAG: u32 = 7;

/// Fills the context's mailbox: from 0 on, as many as have room.
fn fill(handle: &Handle) {
    for value in 0..ROOM as u64 {
        handle.try_message(ROOM_TAG, value).unwrap();
    }
    let one_more = Message { tag: ROOM_TAG, value: 0 };
    assert_eq!(handle.try_message(ROOM_TAG, 0), Err(TrySendError::Full(one_more)));
}

/// Passes a count back and forth between a context of this thread and one of another, which are
/// mostly blocked.
fn to_and_fro(here: &Builder, there: &Builder) {
    const TURNS: u64 = 2000;
    let there = Elsewhere::new(there);
    let mut context = here.build().unwrap();
    let (back, forth) = (context.handle(), there.handle.clone());
    let answering = there.handle.spawn(move || async move {
        let mut messages = messages();
        while let Some(Message { tag, value }) = messages.next().await {
            back.send_message(tag + 1, value).await.unwrap();
            if value == TURNS {
                return;
            }
        }
    });
    context.block_on(async {
        let mut messages = messages();
        for value in 1..=TURNS {
            forth.send_message(1, value).await.unwrap();
            assert_eq!(messages.next().await, Some(Message { tag: 2, value }));
        }
        answering.await.unwrap();
    });
}

#[test]
fn contexts_on_any_two_drivers_wake_each_other() {
    let drivers = [Driver::IoUring, Driver::Readiness];
    guarded(|| {
        for here in drivers {
            for there in drivers {
                if here.is_here() && there.is_here() {
                    to_and_fro(&here.builder(), &there.builder());
                }
            }
        }
    });
}

every_driver! {
    fn a_million_messages_are_in_order_per_sender(builder) {
        const EACH: u64 = many(many(1_000_000));
        let mut context = builder.build().unwrap();
        let there = Elsewhere::new(&builder);
        let (task, plain) = (context.handle(), context.handle());
        let sending = there.handle.spawn(move || async move {
            for value in 0..EACH {
                task.send_message(0, value).await.unwrap();
            }
        });
        let thread = thread::spawn(move || {
            for value in 0..EACH {
                plain.message_blocking(1, value).unwrap();
            }
        });
        context.block_on(async {
            let (mut messages, mut next) = (messages(), [0; 2]);
            while next != [EACH; 2] {
                let Message { tag, value } = messages.next().await.unwrap();
                assert_eq!(value, next[tag as usize]);
                next[tag as usize] += 1;
            }
            sending.await.unwrap();
            assert_eq!(messages.try_next(), Err(TryRecvError::Empty));
        });
        thread.join().unwrap();
    }

    fn tag_and_value_arrive_unchanged(builder) {
        let tags = [0, 1, 1 << 31, i32::MIN as u32, u32::MAX - 1, u32::MAX];
        // Among them numbers that a driver might use for its own entries.
        let values = [0, 1, 7, 8 | 7, 16 | 7, 24 | 7, 1 << 63, u64::MAX - 1, u64::MAX];
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        let there = Elsewhere::new(&builder);
        let sending = there.handle.spawn(move || async move {
            for tag in tags {
                for value in values {
                    handle.send_message(tag, value).await.unwrap();
                }
            }
        });
        context.block_on(async {
            let mut messages = messages();
            for tag in tags {
                for value in values {
                    assert_eq!(messages.next().await, Some(Message { tag, value }));
                }
            }
            sending.await.unwrap();
        });
    }

    fn messages_sent_before_a_listener_exists_are_kept(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        thread::spawn(move || fill(&handle)).join().unwrap();
        context.block_on(async {
            let mut first = messages();
            for value in 0..10 {
                assert_eq!(first.next().await, Some(Message { tag: ROOM_TAG, value }));
            }
            // Neither dropping the receiver nor cancelling a wait loses a message.
            drop(first);
            let mut second = messages();
            for value in 10..ROOM as u64 {
                assert_eq!(second.try_next(), Ok(Message { tag: ROOM_TAG, value }));
            }
            assert!(timeout(Duration::from_millis(1), second.next()).await.is_err());
            drop(second);
            corio::handle().send_message(1, 2).await.unwrap();
        });
        // Between two runs of the context, too.
        context.block_on(async {
            assert_eq!(messages().next().await, Some(Message { tag: 1, value: 2 }));
        });
    }

    fn a_full_mailbox_makes_senders_wait(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        fill(&handle);
        context.block_on(async {
            let sent = Rc::new(Cell::new(0));
            let tasks: Vec<_> = (0..3)
                .map(|value| {
                    let (handle, sent) = (handle.clone(), sent.clone());
                    spawn(async move {
                        handle.send_message(8, value).await.unwrap();
                        sent.set(sent.get() + 1);
                    })
                })
                .collect();
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(sent.get(), 0, "there is no room");
            let mut messages = messages();
            for value in 0..ROOM as u64 {
                assert_eq!(messages.next().await, Some(Message { tag: ROOM_TAG, value }));
            }
            for value in 0..3 {
                assert_eq!(messages.next().await, Some(Message { tag: 8, value }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    fn a_thread_that_waits_for_room_is_woken(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        fill(&handle);
        let thread = thread::spawn(move || {
            for value in 0..10_u64 {
                handle.message_blocking(8, value).unwrap();
            }
        });
        context.block_on(async {
            let mut messages = messages();
            for value in 0..ROOM as u64 {
                assert_eq!(messages.next().await, Some(Message { tag: ROOM_TAG, value }));
            }
            for value in 0..10 {
                assert_eq!(messages.next().await, Some(Message { tag: 8, value }));
            }
        });
        thread.join().unwrap();
    }

    fn a_send_to_a_context_that_has_ended_is_an_error(builder) {
        let context = builder.build().unwrap();
        let (never_written_to, message) = (context.handle(), Message { tag: 1, value: 2 });
        drop(context);
        let mut context = builder.build().unwrap();
        let full = context.handle();
        fill(&full);
        let there = Elsewhere::new(&builder);
        let waits = full.clone();
        let waiting = there.handle.spawn(move || async move { waits.send_message(1, 2).await });
        // A receiver may outlive the context, and receives every message.
        let mut left = context.block_on(async { messages() });
        drop(context);
        assert_eq!(waiting.join().unwrap(), Err(SendError(message)));
        for handle in [never_written_to, full] {
            assert_eq!(handle.try_message(1, 2), Err(TrySendError::Closed(message)));
            assert_eq!(handle.message_blocking(1, 2), Err(SendError(message)));
            let mut context = builder.build().unwrap();
            context.block_on(async {
                assert_eq!(handle.send_message(1, 2).await, Err(SendError(message)));
            });
        }
        for value in 0..ROOM as u64 {
            assert_eq!(left.try_next(), Ok(Message { tag: ROOM_TAG, value }));
        }
        assert_eq!(left.try_next(), Err(TryRecvError::Closed));
        let mut context = builder.build().unwrap();
        assert_eq!(context.block_on(left.next()), None);
    }

    fn a_listener_on_another_thread_ends_with_its_context(builder) {
        let mut context = builder.build().unwrap();
        let there = Elsewhere::new(&builder);
        let mut moved = context.block_on(async { messages() });
        let (tell, told) = std::sync::mpsc::channel();
        let listening = there.handle.spawn(move || async move {
            tell.send(moved.next().await).unwrap();
            moved.next().await
        });
        let message = Message { tag: 1, value: 2 };
        context.handle().try_message(message.tag, message.value).unwrap();
        assert_eq!(told.recv().unwrap(), Some(message));
        drop(context);
        assert_eq!(listening.join().unwrap(), None);
    }

    fn a_task_that_is_cancelled_while_listening_takes_nothing(builder) {
        let mut context = builder.build().unwrap();
        let handle = context.handle();
        context.block_on(async {
            let task = spawn(async { messages().next().await });
            yield_now().await;
            task.cancel();
            assert!(task.await.is_err());
            handle.send_message(1, 2).await.unwrap();
            let next = timeout(LONG, messages().next()).await.unwrap();
            assert_eq!(next, Some(Message { tag: 1, value: 2 }));
        });
    }

    fn a_second_listener_is_refused(builder) {
        let mut context = builder.build().unwrap();
        let task = context.spawn(async { (messages(), messages()) });
        let error = context.block_on(task).unwrap_err();
        assert!(error.to_string().contains("messages have a receiver already"), "{error}");
        context.block_on(async { drop(messages()) });
    }

    fn a_destructor_in_a_dying_context_may_listen(builder) {
        struct Listens;
        impl Drop for Listens {
            fn drop(&mut self) {
                assert_eq!(messages().try_next(), Err(TryRecvError::Closed));
            }
        }
        let mut context = builder.build().unwrap();
        let here = Listens;
        context.spawn(async move {
            let _here = here;
            std::future::pending::<()>().await;
        });
        context.poll_once(Some(Duration::ZERO)).unwrap();
        drop(context);
    }

    fn a_context_that_runs_without_a_listener_keeps_messages(builder) {
        let there = Elsewhere::new(&builder);
        eventually("it runs", || there.handle.is_running());
        fill(&there.handle);
        let task = there.handle.spawn(|| async { messages().next().await });
        assert_eq!(task.join().unwrap(), Some(Message { tag: ROOM_TAG, value: 0 }));
    }
}
