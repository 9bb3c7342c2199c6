//! `SIGPIPE`, whatever its action is and whenever that is changed.

// # Why this file has `unsafe`
// It sets the actions of signals, and asks which are pending.

use std::io::{ErrorKind, Write};

use corio::net::UnixStream;
use corio::op::{AsyncSplice, AsyncWrite, AsyncWritev};

use crate::harness::{Case, Outcome, assert_kind, file_with};

every_driver! { cases:
    no_call_raises_sigpipe_if_its_action_is_the_default_from_the_start,
    no_call_raises_sigpipe_if_its_action_becomes_the_default_later,
    a_context_leaves_the_signal_mask_as_it_was,
}

fn set_action(action: libc::sighandler_t) {
    // SAFETY: sets an action that runs no code of this program.
    unsafe { libc::signal(libc::SIGPIPE, action) };
}

/// Whether this thread blocks the signal, and whether one is pending.
fn state() -> (bool, bool) {
    let (mut mask, mut pending) =
        (std::mem::MaybeUninit::uninit(), std::mem::MaybeUninit::uninit());
    // SAFETY: the calls fill the sets before they are looked at.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
        libc::sigpending(pending.as_mut_ptr());
        let is_in = |set| libc::sigismember(set, libc::SIGPIPE) == 1;
        (is_in(mask.as_ptr()), is_in(pending.as_ptr()))
    }
}

fn no_call_raises_sigpipe_if_its_action_is_the_default_from_the_start(case: Case) -> Outcome {
    case.alone(|| {
        set_action(libc::SIG_DFL);
        let mut context = case.context();
        context.block_on(every_call_says_broken_pipe())?;
        assert_eq!(state(), (false, false), "between calls the program's own writes count");
        Ok(())
    })
}

fn no_call_raises_sigpipe_if_its_action_becomes_the_default_later(case: Case) -> Outcome {
    case.alone(|| {
        set_action(libc::SIG_IGN);
        let mut context = case.context();
        set_action(libc::SIG_DFL);
        context.block_on(every_call_says_broken_pipe())?;
        drop(context);
        assert_eq!(state(), (false, false));
        Ok(())
    })
}

fn a_context_leaves_the_signal_mask_as_it_was(case: Case) -> Outcome {
    case.alone(|| {
        for action in [libc::SIG_IGN, libc::SIG_DFL] {
            set_action(action);
            assert_eq!(state(), (false, false));
            case.context().block_on(every_call_says_broken_pipe())?;
            assert_eq!(state(), (false, false));
        }
        Ok(())
    })
}

async fn every_call_says_broken_pipe() -> Outcome {
    let (a, b) = UnixStream::pair()?;
    drop(b);
    assert_kind(a.send("x").await.0, ErrorKind::BrokenPipe);
    assert_kind(a.send_all("x").await.0, ErrorKind::BrokenPipe);
    assert_kind(a.send_msg(["x"]).await.0, ErrorKind::BrokenPipe);
    let file = file_with(b"contents")?;
    assert_kind(a.send_file(&file, 0, 8).await, ErrorKind::BrokenPipe);

    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"x")?;
    assert_kind(AsyncSplice::out_of_pipe(&reader, &a, 1).await, ErrorKind::BrokenPipe);
    drop(reader);
    assert_kind(AsyncWrite::at_position(&writer, "x").await.0, ErrorKind::BrokenPipe);
    assert_kind(AsyncWritev::new(&writer, ["x"], 0).await.0, ErrorKind::BrokenPipe);

    let (c, d) = UnixStream::pair()?;
    c.send_all("y").await.0?;
    assert_kind(AsyncSplice::into_pipe(&d, &writer, 1).await, ErrorKind::BrokenPipe);
    Ok(())
}
