//! Whether this kernel's own receives can be relied on, found out by a trial.
//!
//! Linux 6.12 to 6.19 may miss the end of a stream that follows its last bytes at once: both wake
//! the receive before it runs, and it looks only once (mended in 7.0 and some later releases of the
//! others, by "io_uring/poll: fix multishot recv missing EOF on wakeup race"). TCP is not
//! concerned, as it says that there is more to come; a Unix socket may be. A program would wait for
//! ever.
//!
//! # Why this file has `unsafe`
//! It lends memory to a ring.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use io_uring::{IoUring, cqueue, opcode, types};

use super::provided::{BIT_BY_BIT, GROUP, Queue};

/// Whether they can; asks the kernel once per process.
pub(super) fn succeeds() -> bool {
    static SUCCESS: OnceLock<bool> = OnceLock::new();
    *SUCCESS.get_or_init(|| matches!(attempt(), Ok(true)))
}

/// Receives twice, the second time with the end of the stream.
fn attempt() -> io::Result<bool> {
    const LEN: usize = 64;
    let (mut sender, receiver) = UnixStream::pair()?;
    let mut ring =
        IoUring::builder().dontfork().setup_single_issuer().setup_defer_taskrun().build(2)?;
    // The kernel may write to both as long as the ring is there, and, if it has not ended the
    // receive, for a moment longer. Then they are leaked.
    let mut queue = ManuallyDrop::new(Queue::new(1));
    let buffer: &'static mut [u8; LEN] = Box::leak(Box::new([0; LEN]));
    let start = std::ptr::NonNull::from(&mut *buffer).cast::<u8>();
    // SAFETY: one entry is there, until after the ring.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(queue.address(), 1, GROUP, BIT_BY_BIT)?
    };
    queue.put(start, LEN as u32, 0);
    queue.publish();
    let receive = opcode::RecvMulti::new(types::Fd(receiver.as_raw_fd()), GROUP).build();
    // SAFETY: names no memory but the queue's.
    unsafe { ring.submission().push(&receive) }.map_err(io::Error::other)?;
    ring.submit()?;
    sender.write_all(b"ab")?;
    ring.submit_and_wait(1)?;
    sender.write_all(b"cd")?;
    sender.shutdown(Shutdown::Write)?;
    ring.submit_and_wait(1)?;
    let results: Vec<i32> = ring.completion().map(|entry: cqueue::Entry| entry.result()).collect();
    let as_told = results == [2, 2, 0];
    // SAFETY: nobody else reads it, and the kernel has written all it will, or the answer is no.
    let as_sent = unsafe { start.cast::<[u8; 4]>().read_volatile() } == *b"abcd";
    drop(ring);
    if as_told {
        // SAFETY: from `Box::leak`; the kernel has ended the receive, and the ring is gone.
        drop(unsafe { Box::from_raw(start.cast::<[u8; LEN]>().as_ptr()) });
        drop(ManuallyDrop::into_inner(queue));
    }
    Ok(as_told && as_sent)
}

#[cfg(test)]
mod tests {
    /// Where it does not, chunks are received by calls, which other tests look at.
    #[test]
    fn a_kernel_that_has_been_mended_succeeds() {
        let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return };
        let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major >= Some(7) && super::IoUring::new(2).is_ok() {
            assert!(super::succeeds(), "on Linux {release}");
        }
    }
}
