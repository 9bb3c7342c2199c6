//! What all loops on a ring share: the sockets, the tokens of entries, and the calls that push and
//! submit.

// # Why this file has `unsafe`
// Entries name memory by its address alone, so the code that pushes one has to keep it valid.

use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::{IoUring, Submitter, cqueue, squeue, types};

/// The connections, by their numbers.
pub(crate) struct Sockets {
    pub(crate) streams: Vec<TcpStream>,
    /// Whether they are registered with the ring, by their index.
    registered: bool,
}

impl Sockets {
    pub(crate) fn new(ring: &IoUring, streams: Vec<TcpStream>, registered: bool) -> Self {
        if registered {
            let fds: Vec<RawFd> = streams.iter().map(AsRawFd::as_raw_fd).collect();
            ring.submitter().register_files(&fds).unwrap();
        }
        Sockets { streams, registered }
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns the fd to put into an entry for this connection. The entry needs `finish` too.
    pub(crate) fn fd(&self, index: usize) -> types::Fd {
        types::Fd(if self.registered { index as RawFd } else { self.streams[index].as_raw_fd() })
    }

    pub(crate) fn finish(&self, entry: squeue::Entry, token: Token) -> squeue::Entry {
        let flags =
            if self.registered { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() };
        entry.flags(flags).user_data(token.pack())
    }
}

/// The purpose of an entry, packed into its `user_data`.
#[derive(Clone, Copy)]
pub(crate) enum Token {
    Receive { index: usize },
    Send { index: usize, len: usize },
}

impl Token {
    fn pack(self) -> u64 {
        match self {
            Token::Receive { index } => (index as u64) << 1 | 1,
            Token::Send { index, len } => (len as u64) << 32 | (index as u64) << 1,
        }
    }

    pub(crate) fn of(done: &cqueue::Entry) -> Self {
        let data = done.user_data();
        let index = (data as u32 >> 1) as usize;
        match data & 1 {
            1 => Token::Receive { index },
            _ => Token::Send { index, len: (data >> 32) as usize },
        }
    }
}

/// Returns how many bytes were received; `None` at the connection's end.
pub(crate) fn received(done: &cqueue::Entry) -> Option<usize> {
    match done.result() {
        0 => None,
        count if count > 0 => Some(count as usize),
        error => panic!("a receive failed: {}", std::io::Error::from_raw_os_error(-error)),
    }
}

/// Asserts that a send with `MSG_WAITALL` sent all `len` bytes.
pub(crate) fn check_sent(done: &cqueue::Entry, len: usize) {
    assert_eq!(done.result(), len as i32, "a short or failed send");
}

/// Pushes an entry, for which there must be room.
///
/// # Safety
/// The memory that the entry names must stay valid, and untouched if it is to be written to, until
/// its last completion.
pub(crate) unsafe fn push(queue: &mut squeue::SubmissionQueue<'_>, entry: &squeue::Entry) {
    // SAFETY: the memory stays valid and untouched, by this function's list.
    unsafe { queue.push(entry) }.expect("room for two entries per connection");
}

/// Submits, and waits for one completion; with `gather`, up to that many microseconds for several.
///
/// It ends, since the peers of the connections answer or close within a bounded time.
pub(crate) fn submit_and_wait(submitter: &Submitter<'_>, gather: Option<u32>, open: usize) {
    const SEVERAL: usize = 16;
    let result = match gather {
        None => submitter.submit_and_wait(1),
        Some(microseconds) => {
            let limit = types::Timespec::from(Duration::from_secs(1));
            let args = types::SubmitArgs::new().timespec(&limit).min_wait_usec(microseconds);
            submitter.submit_with_args(SEVERAL.min(open), &args)
        }
    };
    match result {
        // The caller comes back, whether there are completions or not.
        Err(error) if [libc::EINTR, libc::ETIME].map(Some).contains(&error.raw_os_error()) => {}
        result => drop(result.unwrap()),
    }
}
