//! SIGINT and SIGTERM as something to await; shared by the examples.

use std::io;

use corio::net::UnixStream;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Turns SIGINT and SIGTERM from the death of the process into the end of a [`wait`](Self::wait).
pub(crate) struct Signals {
    arrived: UnixStream,
}

impl Signals {
    /// From here on, both signals are kept for [`wait`](Self::wait).
    pub(crate) fn new() -> io::Result<Signals> {
        // A signal handler may do next to nothing, but it may send a byte.
        let (arrived, handler) = std::os::unix::net::UnixStream::pair()?;
        pipe::register(SIGINT, handler.try_clone()?)?;
        pipe::register(SIGTERM, handler)?;
        Ok(Signals { arrived: arrived.into() })
    }

    /// Waits for the next signal; one that came before is not lost.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        let (result, _) = self.arrived.recv([0; 1]).await;
        result.map(drop)
    }
}
