//! Errors and panics say what failed, where, and what to do.

use std::pin::pin;
use std::task::{Context, Waker};

use corio::net::UnixStream;
use corio::op::AsyncNop;

use crate::harness::{Outcome, ended, panics_with, poll_now};

every_driver! { two_receives_of_a_stream_at_once_say_so }

async fn two_receives_of_a_stream_at_once_say_so() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    let mut stream = a.recv_stream();
    let mut first = Box::pin(stream.recv());
    assert!(poll_now(&mut first).await.is_pending());
    // Leaked, it is still in flight.
    std::mem::forget(first);
    let error = stream.recv().await.expect_err("the stream is in use");
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("another of its operations is in flight"), "{error}");
    drop(b);
    ended().await;
    Ok(())
}

#[test]
fn an_operation_outside_of_a_context_names_the_line_that_made_it() {
    let line = line!() + 1;
    let nop = AsyncNop::new();
    panics_with(&format!("messages.rs:{line}:"), || {
        let _ = pin!(nop).poll(&mut Context::from_waker(Waker::noop()));
    });
}

#[test]
fn a_call_outside_of_a_context_panics_at_its_caller() {
    let places = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (seen, hook) = (places.clone(), std::panic::take_hook());
    let here = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == here {
            let place = panic.location().map(|place| place.file().to_owned());
            seen.lock().unwrap().push(place.unwrap_or_default());
        } else {
            hook(panic);
        }
    }));
    let calls: [fn(); 6] = [
        || drop(corio::spawn(async {})),
        || {
            corio::stats();
        },
        || drop(corio::in_flight()),
        || drop(corio::handle()),
        || drop(corio::sync::messages()),
        || drop(corio::op::FixedFiles::register(1)),
    ];
    for call in calls {
        panics_with("no IoContext on this thread", call);
    }
    let places = places.lock().unwrap();
    assert_eq!(places.len(), calls.len());
    assert!(places.iter().all(|place| place.ends_with("field/messages.rs")), "{places:?}");
}
