//! Statistics of operations.

use std::time::Duration;

use std::io::Read;

use corio::OpCode;
use corio::op::*;

use crate::harness::{
    Case, Outcome, assert_at_rest, assert_kind, file_with, local_pair, settle, std_pair,
};

every_driver! {
    what_is_in_flight_is_counted_and_listed;
    cases:
    every_operation_is_counted_once,
    failures_are_counted,
}

fn every_operation_is_counted_once(case: Case) -> Outcome {
    let mut context = case.context();
    context.block_on(async {
        let file = file_with(b"contents")?;
        let (a, b) = std_pair()?;
        #[cfg(target_os = "linux")]
        let pipe = std::io::pipe()?;
        for _ in 0..3 {
            AsyncNop::new().await?;
            AsyncRead::new(&file, [0; 1], 0).await.0?;
            AsyncWrite::new(&file, "x", 0).await.0?;
            AsyncReadv::new(&file, [[0; 1]], 0).await.0?;
            AsyncWritev::new(&file, ["x"], 0).await.0?;
            AsyncFsync::new(&file).await?;
            AsyncFdatasync::new(&file).await?;
            AsyncFallocate::new(&file, 0, 0, 8).await?;
            AsyncFtruncate::new(&file, 8).await?;
            AsyncStatx::file(&file).await?;
            AsyncClose::new(AsyncOpen::new("Cargo.toml", libc::O_RDONLY, 0).await?).await?;
            AsyncSend::new(&a, "x").await.0?;
            AsyncRecv::new(&b, [0; 1]).await.0?;
            AsyncSendmsg::new(&a, ["x"]).await.0?;
            AsyncRecvmsg::new(&b, [[0; 1]]).await.0?;
            AsyncPoll::new(&a, Interest::WRITABLE).await?;
            AsyncSendfile::new(&a, &file, 0, 8).await?;
            AsyncRecv::new(&b, [0; 8]).await.0?;
            #[cfg(target_os = "linux")]
            {
                AsyncSend::new(&a, "x").await.0?;
                corio::op::AsyncSplice::into_pipe(&b, &pipe.1, 8).await?;
                (&pipe.0).read_exact(&mut [0; 1])?;
            }
        }
        Ok::<_, std::io::Error>(())
    })?;
    let stats = context.stats();
    for &code in OpCode::ALL {
        let expected = match code {
            OpCode::Recv => 6,
            OpCode::Send if cfg!(target_os = "linux") => 6,
            OpCode::Splice if !cfg!(target_os = "linux") => 0,
            OpCode::Nop | OpCode::Read | OpCode::Write | OpCode::Readv | OpCode::Writev => 3,
            OpCode::Fsync | OpCode::Fdatasync | OpCode::Fallocate | OpCode::Ftruncate => 3,
            OpCode::Statx | OpCode::Open | OpCode::Close | OpCode::Send | OpCode::Splice => 3,
            OpCode::Sendmsg | OpCode::Recvmsg | OpCode::Poll | OpCode::Sendfile => 3,
            // Not made here.
            _ => 0,
        };
        let one = stats.of(code);
        assert_eq!((one.submitted, one.completed, one.failed), (expected, expected, 0), "{code}");
    }
    assert_at_rest(&context);
    assert!(stats.turns > 0 && stats.syscalls > 0 && stats.polls > 0);
    assert!(stats.to_string().contains("sendfile"));
    Ok(())
}

fn failures_are_counted(case: Case) -> Outcome {
    let mut context = case.context();
    context.block_on(async {
        let (a, _b) = std_pair()?;
        assert!(AsyncOpen::new("/none", libc::O_RDONLY, 0).await.is_err());
        let recv = AsyncRecv::new(&a, [0; 1]).with_timeout(Duration::from_millis(1));
        assert_kind(recv.await.0, std::io::ErrorKind::TimedOut);
        Ok::<_, std::io::Error>(())
    })?;
    let stats = context.stats();
    for code in [OpCode::Open, OpCode::Recv] {
        let one = stats.of(code);
        assert_eq!((one.submitted, one.completed, one.failed), (1, 1, 1), "{code}");
    }
    assert_eq!((stats.total().failed, stats.timers_fired), (2, 1));
    assert_at_rest(&context);
    Ok(())
}

async fn what_is_in_flight_is_counted_and_listed() -> Outcome {
    let (handle, b) = local_pair()?;
    #[cfg(unix)]
    let fd = std::os::fd::AsRawFd::as_raw_fd(&handle);
    let line = line!() + 1;
    let recv = corio::spawn(async move { handle.recv(vec![0; 77]).await.0 });
    settle().await;
    assert_eq!(corio::stats().in_flight, 1);
    let pending = corio::in_flight();
    let [one] = &pending[..] else { panic!("{pending:?}") };
    assert_eq!((one.code, one.len), (OpCode::Recv, 77));
    #[cfg(unix)]
    assert_eq!(one.fd, fd);
    assert_eq!((one.location.file(), one.location.line()), (file!(), line));
    assert_eq!(one.task.map(|task| task.line()), Some(line));
    drop(b);
    assert_eq!(recv.await??, 0);
    assert_eq!(corio::stats().in_flight, 0);
    Ok(())
}
