//! Waits for the signals that end a program.

#[path = "hangup.rs"]
mod hangup;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;

use corio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP, caught from the moment this is made; but not SIGHUP if the
/// process was started with it ignored, as `nohup` does.
///
/// The signal handlers write a byte into a socket, so waiting for a signal is a receive.
pub(crate) struct Signals {
    receiver: UnixStream,
}

impl Signals {
    /// Catches the signals from now on, until the process ends.
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = StdUnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGQUIT, SIGHUP] {
            if signal != SIGHUP || !hangup::is_ignored() {
                pipe::register(signal, sender.try_clone()?)?;
            }
        }
        Ok(Signals { receiver: receiver.into() })
    }

    /// Waits for a signal; one that arrived since [`new`](Self::new) counts.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.receiver.recv([0; 1]).await.0.map(drop)
    }
}
