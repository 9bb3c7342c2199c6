//! Probes whether this kernel's multishot receives are reliable, by making one.
//!
//! Linux 6.12 to 6.19 may miss the end of a stream that follows its last bytes immediately: both
//! wake the receive before it runs, and it checks only once (fixed in 7.0, and in later stable
//! releases of the others, by "io_uring/poll: fix multishot recv missing EOF on wakeup race"). TCP
//! is not affected, as it reports that more is to come; a Unix socket may be. A program would wait
//! forever.

// # Why this file has `unsafe`
// It lends memory to a ring.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use io_uring::{IoUring, cqueue, opcode, types};

use super::provided::{BufferRing, GROUP, INCREMENTAL};

/// Returns `true` if multishot receives are reliable; asks the kernel once per process.
pub(super) fn succeeds() -> bool {
    static SUCCESS: OnceLock<bool> = OnceLock::new();
    *SUCCESS.get_or_init(|| matches!(attempt(), Ok(true)))
}

/// Receives twice, the second time together with the end of the stream.
fn attempt() -> io::Result<bool> {
    const LEN: usize = 64;
    let (mut sender, receiver) = UnixStream::pair()?;
    let mut ring =
        IoUring::builder().dontfork().setup_single_issuer().setup_defer_taskrun().build(2)?;
    // The kernel may access both as long as the ring exists, and, if it has not ended the receive,
    // for a moment longer. In that case they are leaked.
    let mut buffers = ManuallyDrop::new(BufferRing::new(1));
    let buffer: &'static mut [u8; LEN] = Box::leak(Box::new([0; LEN]));
    let start = std::ptr::NonNull::from(&mut *buffer).cast::<u8>();
    // SAFETY: the address is that of one entry, which is freed after the ring, or never.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(buffers.address(), 1, GROUP, INCREMENTAL)?
    };
    buffers.put(start, LEN as u32, 0);
    buffers.publish();
    let receive = opcode::RecvMulti::new(types::Fd(receiver.as_raw_fd()), GROUP).build();
    // SAFETY: the entry names no memory but the registered buffers.
    unsafe { ring.submission().push(&receive) }.map_err(io::Error::other)?;
    ring.submit()?;
    sender.write_all(b"ab")?;
    ring.submit_and_wait(1)?;
    sender.write_all(b"cd")?;
    sender.shutdown(Shutdown::Write)?;
    ring.submit_and_wait(1)?;
    let results: Vec<i32> = ring.completion().map(|entry: cqueue::Entry| entry.result()).collect();
    let as_expected = results == [2, 2, 0];
    // SAFETY: the allocation is leaked, hence in place. If the kernel has not ended the receive, it
    // may write meanwhile; the value is then not used.
    let as_sent = unsafe { start.cast::<[u8; 4]>().read_volatile() } == *b"abcd";
    drop(ring);
    if as_expected {
        // SAFETY: from `Box::leak`, of this type. The result 0 has ended the receive, and the ring
        // is closed, so that the kernel does not access it any more.
        drop(unsafe { Box::from_raw(start.cast::<[u8; LEN]>().as_ptr()) });
        drop(ManuallyDrop::into_inner(buffers));
    }
    Ok(as_expected && as_sent)
}

#[cfg(test)]
mod tests {
    /// On others, bytes are received by system calls, which the conformance suite covers.
    #[test]
    fn a_kernel_with_the_fix_succeeds() {
        let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return };
        let major = release.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major >= Some(7) && super::IoUring::new(2).is_ok() {
            assert!(super::succeeds(), "on Linux {release}");
        }
    }
}
