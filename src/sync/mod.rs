//! Channels and locks between tasks.
//!
//! Two families. The channels of this module work between threads: each end may be on another
//! context, or on a plain thread. Those of [`local`] stay on one thread and cost no atomics.
//!
//! | | between threads | on one thread |
//! |---|---|---|
//! | many senders to one receiver | [`mpsc`] | [`local::mpsc`] |
//! | two numbers, to a context | [`messages`](messages()) | |
//! | one value, once | [`oneshot`] | [`local::oneshot`] |
//! | the latest value | [`watch`] | |
//! | locks | | [`local::Mutex`], [`local::RwLock`] |
//! | permits, events | | [`local::Semaphore`], [`local::Notify`], [`local::Barrier`] |
//!
//! The constructor is `channel` everywhere: `mpsc::channel(16)`, `oneshot::channel()`,
//! `watch::channel(value)`.
//!
//! No message is lost when a waiting future is dropped: each method says what happens then.

pub mod local;
pub mod messages;
pub mod mpsc;
pub mod oneshot;
mod ring;
mod send_message;
pub(crate) mod wait_list;
pub mod watch;

pub(crate) use crate::runtime::park::{park_until, wait};
pub use messages::messages;
