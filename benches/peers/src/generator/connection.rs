//! What the load generators on a ring and on epoll share.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::answer::Progress;
use super::tally::{Outcome, Until};
use crate::system;

/// How long to wait for an answer before the server counts as hung.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// A load generator that sends the next request on a connection as soon as it has the answer.
pub(crate) trait ClosedLoop {
    fn closed_loop(&mut self, until: Until) -> Result<Outcome>;
}

/// A connection with at most one request in flight.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) buffer: Vec<u8>,
    pub(super) progress: Progress,
    /// When the request was sent, or due.
    pub(super) since: Instant,
}

impl Connection {
    pub(super) fn open(
        address: SocketAddr,
        connections: usize,
        buffer: usize,
    ) -> Result<Vec<Self>> {
        (0..connections)
            .map(|index| {
                let stream = TcpStream::connect(address)
                    .with_context(|| format!("connection {index} to {address}"))?;
                stream.set_nodelay(true)?;
                system::control_congestion(&stream)?;
                let buffer = vec![0; buffer];
                let progress = Progress::default();
                Ok(Connection { stream, buffer, progress, since: Instant::now() })
            })
            .collect()
    }
}
