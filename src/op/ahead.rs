//! Bytes that a handle's receive streams have received before an operation asked for them.
//!
//! They come first for whatever receives next on the handle. While a stream exists, they are in its
//! queue; a stream that is dropped leaves them in the handle, as plain memory that may go to
//! another thread with it.

// # Why this file has `unsafe`
// It copies into buffers that need not be initialised. And a handle knows the queue of its receive
// stream by an address, which counts no reference: a handle can be sent to another thread, a
// reference of that kind cannot.

use std::cell::Cell;
use std::fmt;
use std::ops::ControlFlow;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::descriptor::Descriptor;
use crate::buf::{IoBufMut, IoBufsMut, RecvBuf};
use crate::driver::{Driver, RecvQueue};
use crate::runtime::Runtime;

/// The most bytes that one receive is shown, so that its result has room for their number.
const MOST: usize = 1 << 30;

/// What the receive streams of one handle have received.
#[derive(Default)]
pub(super) struct Ahead {
    /// There may be something.
    any: Cell<bool>,
    /// What streams that were dropped have left.
    rest: Cell<Option<Box<Rest>>>,
    /// The queue of the stream that has begun last, and has not been dropped; only for the thread
    /// of its context.
    stream: AtomicPtr<RecvQueue>,
}

#[derive(Debug, Default)]
struct Rest {
    bytes: Vec<u8>,
    /// The number of those that were taken.
    taken: usize,
    /// The error behind them.
    error: Option<i32>,
}

impl Rest {
    fn receive(&mut self, peek: bool, take: impl FnOnce(&[u8]) -> usize) -> Option<i32> {
        let bytes = &self.bytes[self.taken..];
        if bytes.is_empty() {
            let errno = if peek { self.error } else { self.error.take() };
            return errno.map(|errno| -errno);
        }
        let taken = take(&bytes[..bytes.len().min(MOST)]);
        self.taken += if peek { 0 } else { taken };
        Some(taken as i32)
    }

    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len() && self.error.is_none()
    }
}

impl Ahead {
    /// Returns `true` if a receive has to look here first.
    #[inline(always)]
    pub(super) fn any(&self) -> bool {
        self.any.get()
    }

    /// Begins a stream of this handle: what others have received goes to `queue`, which is empty.
    #[cold]
    pub(super) fn begin(&self, queue: &Rc<RecvQueue>) {
        if let Some(rest) = self.rest.take() {
            queue.put(RecvBuf::copies_of(&rest.bytes[rest.taken..]), rest.error);
        }
        if let Some(other) = self.idle_stream() {
            stop(&other);
            let (buffers, error) = other.take_all();
            queue.put(buffers, error);
            if !other.is_active() {
                // It begins again when it is used again.
                other.set_context(0);
            }
        }
        self.stream.store(Rc::as_ptr(queue).cast_mut(), Ordering::Relaxed);
        self.any.set(true);
    }

    /// Ends a stream of this handle: what it has received stays here.
    pub(super) fn end(&self, queue: &Rc<RecvQueue>) {
        if ptr::eq(self.stream.load(Ordering::Relaxed), Rc::as_ptr(queue)) {
            self.stream.store(ptr::null_mut(), Ordering::Relaxed);
        }
        queue.abandon();
        if queue.is_active() {
            stop(queue);
        }
        #[cfg(corio_uring)]
        if queue.is_active() {
            queue.end_later();
        }
        let (buffers, error) = queue.take_all();
        let mut rest = self.rest.take();
        if let Some(live) = self.idle_stream() {
            live.put_first(buffers, error);
        } else if !buffers.is_empty() || error.is_some() {
            let rest = rest.get_or_insert_default();
            for buffer in buffers {
                rest.bytes.extend_from_slice(&buffer);
            }
            rest.error = rest.error.or(error);
        }
        self.store(rest);
    }

    /// Receives what streams have received: returns the number of bytes that `take` has taken of
    /// those that it was shown, or a negated error number; `None`: there is nothing.
    #[cold]
    pub(super) fn receive(&self, peek: bool, take: impl FnOnce(&[u8]) -> usize) -> Option<i32> {
        let mut rest = self.rest.take();
        let received = match &mut rest {
            Some(rest) => rest.receive(peek, take),
            None => self.idle_stream().and_then(|queue| {
                stop(&queue);
                queue.receive(peek, take)
            }),
        };
        self.store(rest);
        received
    }

    /// Takes all bytes that streams which were dropped have left.
    pub(super) fn take_rest(&self) -> Vec<u8> {
        let Some(mut rest) = self.rest.take() else { return Vec::new() };
        let mut bytes = std::mem::take(&mut rest.bytes);
        bytes.drain(..std::mem::take(&mut rest.taken));
        self.store(Some(rest));
        bytes
    }

    /// Puts bytes back, in front of all others.
    #[cfg(target_os = "linux")]
    pub(super) fn put_back(&self, mut bytes: Vec<u8>) {
        if let Some(live) = self.idle_stream() {
            return live.put_first(RecvBuf::copies_of(&bytes), None);
        }
        let mut rest = self.rest.take().unwrap_or_default();
        bytes.extend_from_slice(&rest.bytes[rest.taken..]);
        (rest.bytes, rest.taken) = (bytes, 0);
        self.store(Some(rest));
    }

    fn store(&self, rest: Option<Box<Rest>>) {
        let rest = rest.filter(|rest| !rest.is_empty());
        self.any.set(rest.is_some() || !self.stream.load(Ordering::Relaxed).is_null());
        self.rest.set(rest);
    }

    /// Returns the queue of the stream that exists, unless one of its operations is in flight:
    /// between that and other receives there is no order.
    fn idle_stream(&self) -> Option<Rc<RecvQueue>> {
        self.stream().filter(|queue| !queue.is_reserved())
    }

    /// Returns the queue of the stream that exists, if it belongs to this thread's context.
    fn stream(&self) -> Option<Rc<RecvQueue>> {
        let stream: *const RecvQueue = self.stream.load(Ordering::Relaxed);
        // SAFETY: `begin` has stored the address of a queue of which the stream has a count; the
        // stream's destructor ends that by `end`, and without it the count is never given up. What
        // is read here was written before the address was stored, by the thread that may
        // have sent the handle here.
        let context = unsafe { stream.as_ref() }?.context();
        let here = Runtime::try_with(|runtime| runtime.is_some_and(|now| now.id == context));
        here.then(|| {
            // SAFETY: it came from `Rc::as_ptr`, and there is a count, as above. A context stays
            // on its thread, so that this is the thread of the queue.
            unsafe {
                Rc::increment_strong_count(stream);
                Rc::from_raw(stream)
            }
        })
    }
}

/// Stops the driver's own receive, so that it takes no more bytes from the socket.
fn stop(queue: &Rc<RecvQueue>) {
    Runtime::try_with(|runtime| {
        let Some(runtime) = runtime.filter(|now| now.id == queue.context()) else { return };
        // At the end of a context all are stopped together.
        if queue.is_active() && !runtime.is_closing() {
            runtime.driver(|driver| driver.stop_receive(queue));
        }
    });
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("any", &self.any).finish_non_exhaustive()
    }
}

/// Receives what streams of a handle have received ahead into one buffer, from its start or behind
/// the first `filled` bytes; breaks with the result.
#[cold]
pub(super) fn into_one(
    handle: &Descriptor,
    buf: &mut impl IoBufMut,
    filled: usize,
    peek: bool,
) -> ControlFlow<i32> {
    let (start, room) = (buf.buf_mut_ptr().wrapping_add(filled), buf.buf_capacity() - filled);
    into(handle, peek, |bytes| {
        let len = bytes.len().min(room);
        // SAFETY: within the bytes, and within the capacity, which by the contract of `IoBufMut`
        // is valid for writes and used by nothing else.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), len) };
        len
    })
}

/// Does the same with several buffers.
#[cold]
pub(super) fn into_all(handle: &Descriptor, bufs: &mut impl IoBufsMut) -> ControlFlow<i32> {
    into(handle, false, |bytes| {
        let mut taken = 0;
        bufs.visit_mut(&mut |start, room| {
            let part = &bytes[taken..];
            let len = part.len().min(room);
            // SAFETY: as in `into_one`, for each of the buffers.
            unsafe { start.copy_from_nonoverlapping(part.as_ptr(), len) };
            taken += len;
        });
        taken
    })
}

fn into(handle: &Descriptor, peek: bool, take: impl FnOnce(&[u8]) -> usize) -> ControlFlow<i32> {
    match handle.ahead().receive(peek, take) {
        Some(result) => ControlFlow::Break(result),
        None => ControlFlow::Continue(()),
    }
}
