//! Whole transfers: operations that go on until everything has moved.
//!
//! Each is one future and one scope entry, so a timeout or a cancellation covers the whole of it.

use std::io;

use super::file::{at, clamp, filled_by};
use super::future::{Op, Operation, io_error};
use super::source::Source;
use crate::buf::{IoBuf, IoBufMut};
use crate::driver::{OpCode, Request};
use crate::os;

/// A transfer ended before everything had moved; the source of the `io::Error` that says so.
///
/// # Examples
/// ```
/// use corio::op::Incomplete;
/// use std::{io::{ErrorKind, Write}, os::unix::net::UnixStream};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let (mut a, b) = UnixStream::pair()?;
/// a.write_all(b"abc")?;
/// drop(a);
/// let (result, _buf) = corio::op::AsyncRecvExact::new(&b, vec![0; 8]).await;
/// let error = result.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
/// assert_eq!(Incomplete::of(&error).unwrap().moved, 3);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{}: {moved} of {wanted} bytes had moved", self.why())]
#[non_exhaustive]
pub struct Incomplete {
    /// How many bytes had moved.
    pub moved: u64,
    /// How many were wanted.
    pub wanted: u64,
    /// What the system said; `None` at an early end of the file or stream.
    #[source]
    pub cause: Option<io::Error>,
}

impl Incomplete {
    fn why(&self) -> String {
        match &self.cause {
            Some(cause) => cause.to_string(),
            None => "unexpected end of file".into(),
        }
    }

    /// The details of an error that a whole transfer gave.
    pub fn of(error: &io::Error) -> Option<&Incomplete> {
        error.get_ref()?.downcast_ref()
    }
}

/// Whether an error says that the operation was cancelled: by [`race`](crate::race),
/// [`JoinHandle::cancel`](crate::JoinHandle::cancel),
/// [`cancel_all_pending`](crate::IoContext::cancel_all_pending), or because its context ends. (A time
/// limit gives `TimedOut` instead.)
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// use corio::{RaceOutput, op::is_cancelled, race, yield_now};
/// let (a, _b) = corio::net::UnixStream::pair()?;
/// let RaceOutput::Second(Some((result, _buf)), ()) = race(a.recv_exact(vec![0; 8]), yield_now()).await
/// else {
///     unreachable!("nothing was sent");
/// };
/// assert!(is_cancelled(&result.unwrap_err()));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_cancelled(error: &io::Error) -> bool {
    let cause = Incomplete::of(error).and_then(|incomplete| incomplete.cause.as_ref());
    cause.unwrap_or(error).raw_os_error() == Some(os::ECANCELED)
}

/// How far a transfer has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) moved: u64,
    pub(super) wanted: u64,
}

impl Progress {
    pub(super) fn new(wanted: u64) -> Self {
        Progress { moved: 0, wanted }
    }

    /// Takes note of one result; `true`: there is more to do.
    #[inline(always)]
    pub(super) fn advance(&mut self, result: i32) -> bool {
        match result {
            1.. => {
                self.moved += result as u64;
                self.moved < self.wanted
            }
            _ => result == -os::EINTR,
        }
    }

    /// The outcome, given the last result.
    #[inline(always)]
    pub(super) fn outcome(&self, result: i32) -> io::Result<()> {
        if self.moved >= self.wanted { Ok(()) } else { Err(self.incomplete(result)) }
    }

    #[cold]
    fn incomplete(&self, result: i32) -> io::Error {
        let &Progress { moved, wanted } = self;
        let cause = (result < 0).then(|| io_error(-result));
        let kind = cause.as_ref().map_or(io::ErrorKind::UnexpectedEof, io::Error::kind);
        io::Error::new(kind, Incomplete { moved, wanted, cause })
    }
}

macro_rules! whole_transfer {
    (
        $(#[$doc:meta])* $alias:ident = $name:ident, $code:ident, $bound:ident,
        $ptr:ident, $len:ident, $output_len:ident,
        $($field:ident: $field_ty:ty,)*
        |$this:ident, $at:ident, $left:ident| $request:expr
    ) => {
        $(#[$doc])*
        pub type $alias<'a, B> = Op<$name<'a, B>>;

        #[doc = concat!("See [`", stringify!($alias), "`].")]
        #[derive(Debug)]
        pub struct $name<'a, B> {
            source: Source<'a>,
            buf: B,
            progress: Progress,
            $($field: $field_ty,)*
        }

        impl<B: $bound> Operation for $name<'_, B> {
            type Output = (io::Result<()>, B);
            const CODE: OpCode = OpCode::$code;

            #[inline(always)]
            fn prepare(&mut self) -> Result<(), i32> {
                // Nothing to move is done at once; a receive of no bytes would wait for some.
                if self.progress.wanted == 0 { Err(0) } else { self.source.hold() }
            }
            #[inline(always)]
            #[allow(private_interfaces)]
            fn request(&mut self) -> Request {
                let moved = self.progress.moved as usize;
                // `wrapping_add`: within the buffer, as no more has moved than there was room for.
                let $at = self.buf.$ptr().wrapping_add(moved);
                let $left = clamp(self.buf.$len() - moved);
                let $this = self;
                $request
            }
            #[inline(always)]
            fn goes_on(&mut self, result: i32) -> bool {
                self.progress.advance(result)
            }
            #[inline(always)]
            fn left_more(&self, more: bool) {
                if Self::CODE == OpCode::Recv {
                    self.source.set_eager(more);
                }
            }
            #[inline(always)]
            #[allow(unused_mut)]
            fn finish(mut self, result: i32) -> Self::Output {
                whole_transfer!(@filled $output_len, self);
                (self.progress.outcome(result), self.buf)
            }
        }

        impl<'a, B: $bound> Op<$name<'a, B>> {
            /// Moves the whole of `buf`.
            #[inline(always)]
            #[track_caller]
            pub fn new(source: impl Into<Source<'a>>, buf: B $(, $field: $field_ty)*) -> Self {
                let progress = Progress::new(buf.$len() as u64);
                Op::of($name { source: source.into(), buf, progress $(, $field)* })
            }
        }
    };
    (@filled into, $this:expr) => { filled_by(&mut $this.buf, $this.progress.moved as usize) };
    (@filled from, $this:expr) => {};
}

whole_transfer! {
    /// Receives until the buffer's whole capacity is filled.
    ///
    /// An early end of the stream is `UnexpectedEof`; this and any other error tells by
    /// [`Incomplete`] how many bytes had come, and they are in the buffer.
    ///
    /// # Examples
    /// See [`Incomplete`].
    AsyncRecvExact = RecvExact, Recv, IoBufMut, buf_mut_ptr, buf_capacity, into,
    // Without `MSG_WAITALL`: the ring gives what had come when an error ends its wait, and the socket
    // has forgotten the error by then, so that a reset would look like an ordinary end.
    |this, ptr, len| Request::Recv { fd: this.source.target(), ptr, len, flags: 0 }
}

whole_transfer! {
    /// Sends the whole buffer.
    ///
    /// An error tells by [`Incomplete`] how many bytes the kernel had taken.
    ///
    /// # Examples
    /// ```
    /// use corio::op::AsyncSendAll;
    /// use std::os::unix::net::UnixStream;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let (a, _b) = UnixStream::pair()?;
    /// let (result, _buf) = AsyncSendAll::new(&a, "all of it").await;
    /// result?;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    AsyncSendAll = SendAll, Send, IoBuf, buf_ptr, buf_len, from,
    |this, ptr, len| {
        let flags = os::MSG_WAITALL | os::MSG_NOSIGNAL;
        Request::Send { fd: this.source.target(), ptr, len, flags }
    }
}

whole_transfer! {
    /// Reads at an offset until the buffer's whole capacity is filled.
    ///
    /// An early end of the file is `UnexpectedEof`; this and any other error tells by
    /// [`Incomplete`] how many bytes were read, and they are in the buffer.
    ///
    /// # Examples
    /// ```
    /// use corio::op::AsyncReadExactAt;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = std::fs::File::open("Cargo.toml")?;
    /// let (result, buf) = AsyncReadExactAt::new(&file, [0; 9], 0).await;
    /// result?;
    /// assert_eq!(&buf, b"[package]");
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    AsyncReadExactAt = ReadExactAt, Read, IoBufMut, buf_mut_ptr, buf_capacity, into,
    offset: u64,
    |this, ptr, len| {
        let offset = at(this.offset.saturating_add(this.progress.moved));
        Request::Read { fd: this.source.target(), ptr, len, offset }
    }
}

whole_transfer! {
    /// Writes the whole buffer at an offset.
    ///
    /// An error tells by [`Incomplete`] how many bytes were written.
    ///
    /// # Examples
    /// ```
    /// use corio::op::AsyncWriteAllAt;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let file = tempfile::tempfile()?;
    /// let (result, _buf) = AsyncWriteAllAt::new(&file, "all of it", 100).await;
    /// result?;
    /// assert_eq!(file.metadata()?.len(), 109);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    AsyncWriteAllAt = WriteAllAt, Write, IoBuf, buf_ptr, buf_len, from,
    offset: u64,
    |this, ptr, len| {
        let offset = at(this.offset.saturating_add(this.progress.moved));
        Request::Write { fd: this.source.target(), ptr, len, offset }
    }
}
