//! Sending a file to a socket without a copy through user space.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;
use std::task::Waker;

use crate::driver::{OpCode, Pages, Request};
use crate::op::future::{Op, Operation};
use crate::op::order::{Ordered, SENDING};
use crate::op::source::Source;
use crate::op::transfer::Progress;
use crate::os;

/// Sends a part of a file to a socket.
/// [`sendfile(2)`](https://man7.org/linux/man-pages/man2/sendfile.2.html).
///
/// Completes when the socket has taken all `len` bytes. In order with other whole transfers on the
/// handle, as [`AsyncSendAll`](crate::op::AsyncSendAll) says.
///
/// The kernel moves references to the file's cached pages, not bytes; one call sends at most 1 MiB,
/// so that other tasks run in between. Pages that are not cached would be read from the disk by the
/// call, which blocks this thread meanwhile. On Linux such a part is read first, on a thread of the
/// pool ([`blocking_threads`](crate::Builder::blocking_threads)), and counts as two more operations
/// in [`Stats`](crate::Stats). What is cached is known since Linux 6.5 (`cachestat(2)`); before
/// that, the first and the last byte of a part are looked at.
///
/// # Errors
/// `UnexpectedEof` if the file ends early. This and any other error carries the number of bytes
/// sent as [`Incomplete`](crate::op::Incomplete).
///
/// # Examples
/// ```
/// use corio::op::AsyncSendfile;
/// use std::{fs::File, io::Read, os::unix::net::UnixStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (a, mut b) = UnixStream::pair()?;
/// let file = File::open("Cargo.toml")?;
/// AsyncSendfile::new(&a, &file, 1, 7).await?;
/// let mut word = [0; 7];
/// b.read_exact(&mut word)?;
/// assert_eq!(&word, b"package");
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "sendfile")]
pub type AsyncSendfile<'a> = Op<Sendfile<'a>>;

/// The operation of [`AsyncSendfile`].
#[derive(Debug)]
pub struct Sendfile<'a> {
    out: Ordered<'a, SENDING>,
    file: Source<'a>,
    offset: u64,
    progress: Progress,
    /// The socket took less than it was offered.
    full: bool,
    pages: Pages,
}

/// Whether the host can tell which pages are in memory.
const HAS_PROBE: bool = cfg!(target_os = "linux");

/// The most bytes that one call sends.
const PART: u64 = 1 << 20;

// SAFETY: 1. There are no pointers. 2. Both files are held. 3. A held source names its file without
// its borrow. 4. The result is a count.
unsafe impl Operation for Sendfile<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Sendfile;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.out.hold()?;
        self.file.hold()
    }
    fn wait(&mut self, waker: &Waker) {
        self.out.wait(waker);
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        Request::Sendfile {
            out: self.out.source.target(),
            file: self.file.target(),
            offset: self.offset.saturating_add(self.progress.moved),
            len: self.next_len(),
            full: self.full,
            pages: self.pages,
        }
    }
    fn goes_on(&mut self, result: i32) -> bool {
        self.pages = match self.pages {
            Pages::Unknown if HAS_PROBE && result == -os::EINTR => Pages::Missing,
            Pages::Missing => Pages::Fetched,
            _ => Pages::Unknown,
        };
        self.full = result > 0 && (result as u32) < self.next_len();
        self.progress.advance(result)
    }
    fn finish(self, result: i32) -> Self::Output {
        self.progress.outcome(result)
    }
}

impl Sendfile<'_> {
    fn next_len(&self) -> u32 {
        (self.progress.wanted - self.progress.moved).min(PART) as u32
    }
}

impl<'a> Op<Sendfile<'a>> {
    /// Sends `len` bytes of `file`, from `offset` bytes after its start, to the socket `out`.
    #[track_caller]
    pub fn new(
        out: impl Into<Source<'a>>,
        file: impl Into<Source<'a>>,
        offset: u64,
        len: u64,
    ) -> Self {
        let progress = Progress::new(len);
        Op::of(Sendfile {
            out: Ordered::new(out.into()),
            file: file.into(),
            offset,
            progress,
            full: false,
            pages: Pages::Unknown,
        })
    }
}
