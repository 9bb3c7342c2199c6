//! Futures that frameworks take for handlers'.

use std::thread;

use corio::compat::handler;
use corio::fs::File;

use crate::harness::{LONG, Outcome, ended, local_pair, poll_now, settle};

every_driver! {
    a_handler_is_send_and_gives_its_output,
    a_handler_that_is_dropped_cancels_what_it_awaits,
    a_handler_that_is_dropped_elsewhere_cancels_what_it_awaits,
}

fn demands_send<T: Send>(value: T) -> T {
    value
}

async fn a_handler_is_send_and_gives_its_output() -> Outcome {
    let page = demands_send(handler(async {
        let file = File::open("Cargo.toml").await?;
        let (result, page) = file.read_at(Vec::with_capacity(9), 0).await;
        result.map(|_| page)
    }));
    assert_eq!(page.await?, b"[package]");
    Ok(())
}

async fn a_handler_that_is_dropped_cancels_what_it_awaits() -> Outcome {
    let (a, b) = local_pair()?;
    let mut waiting = Box::pin(handler(async move { a.recv([0; 1]).await.0 }));
    assert!(poll_now(&mut waiting).await.is_pending());
    settle().await;
    drop(waiting);
    ended().await;
    assert_eq!(b.recv([0; 1]).await.0?, 0, "its stream was dropped with it");
    Ok(())
}

async fn a_handler_that_is_dropped_elsewhere_cancels_what_it_awaits() -> Outcome {
    let (a, b) = local_pair()?;
    let mut waiting = Box::pin(handler(async move { a.recv([0; 1]).await.0 }));
    assert!(poll_now(&mut waiting).await.is_pending());
    thread::spawn(move || drop(waiting)).join().expect("no panic");
    let end = corio::timeout(LONG, b.recv([0; 1])).await?;
    assert_eq!(end.0?, 0);
    ended().await;
    Ok(())
}
