//! One context per core: [`Workers`] that run the same program, and a [`Server`] built on them.
//!
//! Each worker has a thread, a context, and everything that its connections need; a connection
//! stays on the worker that got it. Workers share only what the program asks for: tasks on each
//! other by [`Handle::spawn`](crate::Handle::spawn), [channels](crate::sync), and [`Jobs`] that
//! idle workers take.

mod accept;
mod builder;
mod connection;
mod cpus;
mod jobs;
mod limited;
mod limits;
mod listen;
mod serve;
mod serving;
mod stats;
mod worker_server;
mod workers;

pub use builder::{Balance, ServeError, ServerBuilder};
pub use connection::ConnectionContext;
pub use cpus::{Cpu, cpus};
pub use jobs::{JobError, Jobs};
pub use listen::ListenError;
#[cfg(unix)]
pub use listen::inherited_sockets;
pub use serve::Server;
pub use stats::WorkerStats;
pub use workers::{OnPanic, Phase, StartError, StopHandle, Worker, Workers, WorkersBuilder};
