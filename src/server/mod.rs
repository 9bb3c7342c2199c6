//! One context per core: [`Workers`] that run the same program, and a [`Server`] built on them.
//!
//! Each worker has a thread, a context, and everything its connections need; a connection stays with
//! the worker that got it. What workers share is what they ask for: [`Handle::spawn`](crate::Handle::spawn),
//! the [channels](crate::sync), and [`Jobs`] that whoever is idle takes.

mod connection;
mod cpus;
mod jobs;
mod limited;
mod limits;
mod listen;
mod serve;
mod stats;
mod workers;

pub use connection::ConnectionContext;
pub use cpus::{Cpu, cpus};
pub use jobs::{JobError, Jobs};
pub use listen::ListenError;
#[cfg(unix)]
pub use listen::inherited_sockets;
pub use serve::{Balance, ServeError, Server, ServerBuilder};
pub use stats::WorkerStats;
pub use workers::{OnPanic, Phase, StartError, StopHandle, Worker, Workers, WorkersBuilder};
