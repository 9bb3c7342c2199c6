//! The sending half.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::spare;
use crate::driver::seams::{options, sockets};
use crate::op::{AsyncSendAll, AsyncShutdown, Descriptor};
use crate::os::AsFd;
use crate::runtime::Runtime;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::waker::LocalWaker;
use crate::task::{JoinHandle, spawn};
use crate::time::timeout;

/// How many bytes are kept that the kernel has not taken. More wait until it has.
const LIMIT: usize = 64 * 1024;

/// From how many bytes on they are sent at once from the lent slices, in bytes: then a system call
/// costs less than a copy.
const LARGE: usize = 16 * 1024;

/// For how long what is queued may take after the queue was dropped, by default.
const LINGER: Duration = Duration::from_secs(5);

/// The sending half of a connection that is polled: a queue of bytes, which are sent in the
/// background. Made by [`polled`](super::polled()).
///
/// Small writes are copied, and sent together once the current task has given way; more than 16 KiB
/// are sent at once from where they are, and only what the socket does not take is copied, up to
/// 64 KiB. A queue that is empty holds no memory.
///
/// It may be dropped at any time under every [policy](crate::DropPolicy). What is queued is still
/// sent, for 5 s at most, or as long as [`set_linger`](SendQueue::set_linger) allows; after that
/// the connection is reset, which [`Stats`](crate::Stats) count.
pub struct SendQueue(Rc<Sending>);

/// The part that the sending task shares.
struct Sending {
    stream: Rc<Descriptor>,
    /// Bytes that are not being sent yet.
    front: RefCell<Vec<u8>>,
    /// A task is sending.
    sender: RefCell<Option<JoinHandle<()>>>,
    /// The error that ended the sending.
    failed: Cell<Option<ErrorKind>>,
    /// The error itself, until it is returned.
    error: Cell<Option<io::Error>>,
    end: Cell<End>,
    linger: Cell<Duration>,
    waiter: Cell<LocalWaker>,
}

/// Whether the sending side of the connection is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// After the bytes that are queued.
    Wanted,
    Done,
}

impl SendQueue {
    pub(super) fn new(stream: Rc<Descriptor>) -> Self {
        SendQueue(Rc::new(Sending {
            stream,
            front: RefCell::default(),
            sender: RefCell::default(),
            failed: Cell::new(None),
            error: Cell::new(None),
            end: Cell::new(End::Open),
            linger: Cell::new(LINGER),
            waiter: Cell::new(LocalWaker::NONE),
        }))
    }

    /// Sets for how long what is queued may take after the queue was dropped, before the connection
    /// is reset; default 5 s. `Duration::MAX` means for ever.
    ///
    /// # Examples
    /// ```
    /// # use std::{future::poll_fn, io::IoSlice, time::Duration};
    /// # use corio::net::{UnixStream, polled};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = UnixStream::pair()?;
    /// let (_receiver, mut sender) = polled(a);
    /// sender.set_linger(Duration::from_secs(60));
    /// poll_fn(|cx| sender.poll_write(cx, &[IoSlice::new(b"bye")])).await?;
    /// drop(sender);
    /// let (result, text) = b.recv_exact([0; 3]).await;
    /// result?;
    /// assert_eq!(&text, b"bye");
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_linger(&mut self, time: Duration) {
        self.0.linger.set(time);
    }

    /// Queues bytes, or sends them; returns how many it has taken from the start of `slices`. If
    /// there is no room, the task is woken when there is.
    ///
    /// # Errors
    /// The error of an earlier send, once; after that, and after
    /// [`poll_close`](Self::poll_close), `BrokenPipe`.
    ///
    /// # Panics
    /// If no context is running on this thread.
    ///
    /// # Examples
    /// See [`polled`](super::polled()).
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        within_budget(cx, |cx| self.0.poll_write(cx, slices))
    }

    /// Waits until the kernel has taken all bytes that were queued.
    ///
    /// # Errors
    /// The error of an earlier send, once; after that `BrokenPipe`.
    ///
    /// # Examples
    /// ```
    /// # use std::{future::poll_fn, io::IoSlice};
    /// # use corio::net::{UnixStream, polled};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, b) = UnixStream::pair()?;
    /// let (_receiver, mut sender) = polled(a);
    /// poll_fn(|cx| sender.poll_write(cx, &[IoSlice::new(b"hello")])).await?;
    /// poll_fn(|cx| sender.poll_flush(cx)).await?;
    /// let (result, _buf) = b.recv_exact([0; 5]).await;
    /// result?;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        within_budget(cx, |cx| self.0.poll_flush(cx))
    }

    /// Shuts the sending side down, after all bytes that were queued, and waits until that is done.
    ///
    /// # Errors
    /// As for [`poll_flush`](Self::poll_flush), and what `shutdown(2)` reports.
    ///
    /// # Panics
    /// If no context is running on this thread.
    ///
    /// # Examples
    /// See [`polled`](super::polled()).
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &self.0;
        if this.end.get() == End::Open {
            this.check()?;
            this.end.set(End::Wanted);
            this.start();
        }
        within_budget(cx, |cx| this.poll_flush(cx))
    }
}

impl Sending {
    /// Returns the error that has ended the sending: itself once, then its consequence.
    fn check(&self) -> io::Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(_) => Err(self.error.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_sending(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(|task| !task.is_finished())
    }

    fn is_idle(&self) -> bool {
        self.front.borrow().is_empty() && !self.is_sending()
    }

    fn poll_write(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.end.get() != End::Open {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        if len >= LARGE && self.is_idle() {
            match sockets::try_send(self.stream.as_fd(), slices) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        let mut front = self.front.borrow_mut();
        let before = front.len();
        let mut room = LIMIT - before;
        if room == 0 {
            LocalWaker::update(&self.waiter, cx.waker());
            return Poll::Pending;
        }
        if front.capacity() == 0 {
            *front = spare::take();
        }
        for slice in slices {
            let part = &slice[..slice.len().min(room)];
            front.extend_from_slice(part);
            room -= part.len();
        }
        let taken = front.len() - before;
        drop(front);
        if taken > 0 {
            self.start();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.is_idle() && self.end.get() != End::Wanted {
            return Poll::Ready(Ok(()));
        }
        LocalWaker::update(&self.waiter, cx.waker());
        Poll::Pending
    }

    /// Starts the task that sends, unless it runs.
    fn start(self: &Rc<Self>) {
        if !self.is_sending() {
            let this = self.clone();
            let task = spawn(async move { this.send_all().await });
            self.sender.replace(Some(task));
        }
    }

    /// Sends all that is queued, and what is added meanwhile; then shuts down, if that is wanted.
    async fn send_all(&self) {
        loop {
            let buf = self.front.take();
            if buf.is_empty() {
                spare::give(buf);
                break;
            }
            if buf.len() == LIMIT {
                // There is room again.
                self.wake();
            }
            let (result, buf) = AsyncSendAll::new(self.stream.clone(), buf).await;
            spare::give(buf);
            if let Err(error) = result {
                return self.fail(error);
            }
        }
        if self.end.get() == End::Wanted {
            match AsyncShutdown::new(self.stream.clone(), Shutdown::Write).await {
                // The peer has reset the connection, which is an end, too.
                Err(error) if error.kind() != ErrorKind::NotConnected => self.fail(error),
                _ => self.end.set(End::Done),
            }
        }
        self.sender.replace(None);
        self.wake();
    }

    fn fail(&self, error: io::Error) {
        self.failed.set(Some(error.kind()));
        self.error.set(Some(error));
        spare::give(self.front.take());
        self.sender.replace(None);
        self.wake();
    }

    fn wake(&self) {
        self.waiter.replace(LocalWaker::NONE).wake_now();
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.0.waiter.set(LocalWaker::NONE);
        let is_running = Runtime::try_with(|runtime| runtime.is_some_and(|now| !now.is_closing()));
        if !is_running || !self.0.is_sending() {
            return;
        }
        // The task that sends owns the rest.
        let sending = self.0.clone();
        drop(spawn(async move {
            let sent = std::future::poll_fn(|cx| sending.poll_flush(cx));
            if timeout(sending.linger.get(), sent).await.is_err() {
                Runtime::with(|runtime| runtime.stats.linger_resets.add(1));
                // The last of those who share the connection closes it.
                let _ = options::set_linger(sending.stream.as_fd(), Some(Duration::ZERO));
                let task = sending.sender.take();
                if let Some(task) = task {
                    task.cancel();
                }
            }
        }));
    }
}

impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendQueue")
            .field("queued", &self.0.front.borrow().len())
            .field("end", &self.0.end.get())
            .finish_non_exhaustive()
    }
}
