//! One context per core: [`Workers`] that run the same program, and a server built on them.

mod cpus;
mod workers;

pub use cpus::{Cpu, cpus};
pub use workers::{OnPanic, Phase, StartError, Stopper, Worker, Workers, WorkersBuilder};
