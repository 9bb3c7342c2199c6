//! Values that stay on their thread although their type may leave it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use corio::compat::Local;

use crate::harness::{Case, Outcome, settle};

every_driver! {
    a_value_is_used_and_taken_at_home,
    a_future_inside_is_polled_at_home,
    what_is_dropped_elsewhere_is_dropped_at_home;
    cases:
    a_use_on_another_thread_panics_with_both_names,
    what_is_dropped_after_its_context_is_leaked,
}

/// Notes the thread on which it is dropped.
struct Noted(Rc<Cell<Option<ThreadId>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.set(Some(thread::current().id()));
    }
}

async fn a_value_is_used_and_taken_at_home() -> Outcome {
    let mut local = Local::new(vec![1]);
    local.push(2);
    assert!(local.is_at_home());
    assert_eq!(*local, [1, 2]);
    assert_eq!(local.into_inner(), [1, 2]);
    let dropped = Rc::new(Cell::new(None));
    drop(Local::new(Noted(dropped.clone())));
    assert_eq!(dropped.get(), Some(thread::current().id()));
    Ok(())
}

async fn a_future_inside_is_polled_at_home() -> Outcome {
    let answer = Local::new(Box::pin(async {
        corio::yield_now().await;
        7
    }));
    assert_eq!(answer.await, 7);
    Ok(())
}

async fn what_is_dropped_elsewhere_is_dropped_at_home() -> Outcome {
    let dropped = Rc::new(Cell::new(None));
    let local = Local::new(Noted(dropped.clone()));
    thread::spawn(move || drop(local)).join().expect("no panic");
    for _ in 0..1000 {
        if dropped.get().is_some() {
            break;
        }
        settle().await;
    }
    assert_eq!(dropped.get(), Some(thread::current().id()));
    Ok(())
}

fn a_use_on_another_thread_panics_with_both_names(case: Case) -> Outcome {
    let home = thread::Builder::new().name("home".to_owned());
    let made = thread::scope(|scope| {
        let made = home.spawn_scoped(scope, || {
            let mut context = case.context();
            let local = context.block_on(async { Local::new(Cell::new(7)) });
            let abroad = thread::Builder::new().name("abroad".to_owned());
            let used = abroad.spawn_scoped(scope, move || {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| local.get()))
                    .expect_err("it is not at home")
            });
            let panic = used.expect("a thread").join().expect("caught");
            // The value comes home.
            context.block_on(settle());
            *panic.downcast::<String>().expect("a message")
        });
        made.expect("a thread").join().expect("no panic")
    });
    assert!(made.contains("`home`") && made.contains("`abroad`"), "{made}");
    assert!(made.contains("local.rs"), "{made}");
    Ok(())
}

/// Nothing is left to drop it on.
fn what_is_dropped_after_its_context_is_leaked(case: Case) -> Outcome {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let mut context = case.context();
    let local = context.block_on(async { Local::new(Counted(drops.clone())) });
    drop(context);
    thread::spawn(move || drop(local)).join().expect("no panic");
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    Ok(())
}
