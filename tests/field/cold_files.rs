//! Files that are not in the page cache: the loop does not wait for their disk.

use std::io::Read;
use std::os::fd::AsRawFd;

use corio::OpCode;
use corio::net::UnixStream;
use corio::op::AsyncSendfile;

use crate::harness::{Outcome, file_with, noise, std_pair};

every_driver! {
    a_cold_part_of_a_file_is_read_elsewhere_before_it_is_sent,
    a_cold_file_that_ends_early_reports_the_bytes_sent,
}

const LEN: usize = (2 << 20) + 777;

/// Removes a file's contents from memory; `false` if its file system keeps them there.
fn evict(file: &std::fs::File) -> std::io::Result<bool> {
    file.sync_all()?;
    let mut byte = 0u8;
    let iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the call gets one byte that is valid for writes.
    let cold = unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
        libc::preadv2(file.as_raw_fd(), &iov, 1, 0, libc::RWF_NOWAIT) < 0
            && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
    };
    if !cold {
        eprintln!("left out: the file stays in memory");
    }
    Ok(cold)
}

/// How many steps of transfers have found pages missing, or have read them.
fn steps_elsewhere() -> u64 {
    corio::stats().of(OpCode::Sendfile).failed
}

/// Sends `len` bytes and returns what has arrived.
async fn send(file: &std::fs::File, len: usize) -> std::io::Result<Vec<u8>> {
    let (near, mut far) = std_pair()?;
    let near = UnixStream::from(near);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        far.read_to_end(&mut all).map(|_| all)
    });
    let sent = AsyncSendfile::new(&near, file, 0, len as u64).await;
    drop(near);
    let all = reader.join().expect("no panic");
    sent.and(all)
}

async fn a_cold_part_of_a_file_is_read_elsewhere_before_it_is_sent() -> Outcome {
    let contents = noise(LEN);
    let file = file_with(&contents)?;
    if !evict(&file)? {
        return Ok(());
    }
    assert!(send(&file, LEN).await? == contents, "other bytes");
    let cold = steps_elsewhere();
    assert!(cold >= 2, "the first part was found missing, and read: {cold}");
    // The kernel may still be reading ahead, or have given pages away at once.
    for _ in 0..20 {
        let before = steps_elsewhere();
        assert!(send(&file, LEN).await? == contents, "other bytes");
        if steps_elsewhere() == before {
            return Ok(());
        }
    }
    Err("what is in memory was read elsewhere".into())
}

async fn a_cold_file_that_ends_early_reports_the_bytes_sent() -> Outcome {
    let file = file_with(&noise(LEN))?;
    evict(&file)?;
    let error = send(&file, LEN + 5000).await.expect_err("the end of the file");
    let whole = corio::op::Incomplete::of(&error).expect("bytes were sent");
    assert_eq!(whole.moved, LEN as u64);
    Ok(())
}
