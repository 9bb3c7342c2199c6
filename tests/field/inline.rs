//! Operations that end within their first poll, which hide that a future is dropped in flight.

use std::time::Duration;

use corio::fs::File;
use corio::{DropPolicy, OpCode};

use crate::harness::{Case, Outcome, assert_at_rest, file_with, local_pair, poll_now};

every_driver! {
    cases:
    nothing_ends_within_its_first_poll_where_that_is_off,
    transfers_of_several_parts_end_where_nothing_ends_inline,
    a_cached_read_may_be_cancelled_where_nothing_ends_inline,
    a_cached_read_that_is_dropped_is_waited_for_where_nothing_ends_inline,
    the_report_of_an_abort_names_usual_combinators,
}

fn context(case: Case) -> corio::IoContext {
    let builder = case.driver.builder().complete_inline(false);
    builder.drop_policy(DropPolicy::CancelAndWait).build().expect("a context")
}

fn nothing_ends_within_its_first_poll_where_that_is_off(case: Case) -> Outcome {
    let mut context = context(case);
    context.block_on(async {
        let file = File::from(file_with(b"contents")?);
        // The first brings it into the cache.
        file.read_at([0; 8], 0).await.0?;
        for _ in 0..100 {
            let mut read = Box::pin(file.read_at([0; 8], 0));
            assert!(poll_now(&mut read).await.is_pending());
            assert_eq!(corio::stats().in_flight, 1);
            assert_eq!(&read.await.1, b"contents");
            let mut metadata = Box::pin(file.metadata());
            assert!(poll_now(&mut metadata).await.is_pending());
            assert_eq!(metadata.await?.len(), 8);
        }
        let (a, b) = local_pair()?;
        let mut send = Box::pin(a.send("x"));
        assert!(poll_now(&mut send).await.is_pending());
        send.await.0?;
        let mut stream = b.recv_stream();
        let mut receive = Box::pin(stream.recv());
        assert!(poll_now(&mut receive).await.is_pending());
        assert_eq!(receive.await?.as_deref(), Some(&b"x"[..]));
        Ok::<_, std::io::Error>(())
    })?;
    assert!(context.stats().of(OpCode::Read).completed >= 101);
    assert_at_rest(&context);
    Ok(())
}

fn transfers_of_several_parts_end_where_nothing_ends_inline(case: Case) -> Outcome {
    const LEN: usize = 5 << 20;
    let mut context = context(case);
    context.block_on(async {
        let (a, b) = local_pair()?;
        let file = file_with(&vec![7; LEN])?;
        let sending = corio::spawn(async move { a.send_file(&file, 0, LEN as u64).await });
        let (result, bytes) = b.recv_exact(vec![0; LEN]).await;
        result?;
        assert!(bytes.iter().all(|byte| *byte == 7));
        sending.await.unwrap()
    })?;
    assert_at_rest(&context);
    Ok(())
}

fn a_cached_read_may_be_cancelled_where_nothing_ends_inline(case: Case) -> Outcome {
    let mut context = context(case);
    context.block_on(async {
        let file = File::from(file_with(b"contents")?);
        file.read_at([0; 8], 0).await.0?;
        drop(file.read_at([0; 8], 0).with_timeout(Duration::ZERO).await);
        let task = corio::spawn(async move { file.read_at([0; 8], 0).await.0 });
        corio::yield_now().await;
        task.cancel();
        drop(task.await);
        Ok::<_, std::io::Error>(())
    })?;
    assert_at_rest(&context);
    Ok(())
}

fn a_cached_read_that_is_dropped_is_waited_for_where_nothing_ends_inline(case: Case) -> Outcome {
    let mut context = context(case);
    context.block_on(async {
        let file = File::from(file_with(b"contents")?);
        file.read_at([0; 8], 0).await.0?;
        let mut read = Box::pin(file.read_at([0; 8], 0));
        assert!(poll_now(&mut read).await.is_pending());
        drop(read);
        assert_eq!(corio::stats().in_flight, 0);
        Ok::<_, std::io::Error>(())
    })?;
    assert_at_rest(&context);
    Ok(())
}

fn the_report_of_an_abort_names_usual_combinators(case: Case) -> Outcome {
    let body = || {
        let mut context = case.driver.builder().complete_inline(false).build().expect("a context");
        context.block_on(async {
            let file = File::from(file_with(b"contents").expect("a file"));
            let read = async || file.read_exact_at([0; 4], 0).await.0;
            let failed = async || Err::<(), _>(std::io::Error::other("at once"));
            // Drops the read, which is in flight although its bytes are cached.
            let _ = futures_util::future::try_join(read(), failed()).await;
        });
    };
    crate::harness::aborts(body, |report| {
        for name in ["select!", "try_join", "try_join_all", "buffer_unordered"] {
            assert!(report.contains(name), "{report}");
        }
    });
    Ok(())
}
