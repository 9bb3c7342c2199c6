//! Details of operations' errors: how many bytes were moved, and whether it was a cancellation.

use std::io;

use crate::os;

/// The number of bytes that a whole transfer moved before it failed; the source of its `io::Error`.
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
#[error("{}: {moved} of {wanted} bytes were moved", self.why())]
#[non_exhaustive]
pub struct Incomplete {
    /// The number of bytes moved.
    pub moved: u64,
    /// The number of bytes asked for.
    pub wanted: u64,
    /// The system's error; `None` if the file or stream ended early.
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

    /// Returns the details of an error of a whole transfer; `None` for any other error.
    ///
    /// # Examples
    /// See [`Incomplete`].
    pub fn of(error: &io::Error) -> Option<&Incomplete> {
        error.get_ref()?.downcast_ref()
    }
}

/// Returns `true` if an error means that the operation was cancelled: by [`race`](crate::race),
/// [`JoinHandle::cancel`](crate::JoinHandle::cancel),
/// [`cancel_all_pending`](crate::IoContext::cancel_all_pending), or because its context ends. A
/// time limit gives `TimedOut` instead.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// use corio::{RaceOutput, op::is_cancelled, race, yield_now};
/// let (a, _b) = corio::net::UnixStream::pair()?;
/// let receive = a.recv_exact(vec![0; 8]);
/// let RaceOutput::Second(Some((result, _buf)), ()) = race(receive, yield_now()).await else {
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
