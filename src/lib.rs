//! A completion-based coroutine runtime: one io_uring ring per thread.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
pub mod buf;
mod context;
mod driver;
pub mod fs;
pub mod net;
pub mod op;
mod runtime;
pub mod task;
pub mod time;

pub use context::{Builder, Handle, IoContext, handle, pending, stats};
pub use driver::OpCode;
pub use driver::uring::SetupError;
pub use runtime::DropPolicy;
pub use runtime::report::Pending;
pub use runtime::stats::{OperationStats, Stats};
pub use task::{JoinError, JoinHandle, Raced, join_all, race, race_all, spawn, yield_now};
pub use time::{Elapsed, sleep, sleep_until, timeout};
