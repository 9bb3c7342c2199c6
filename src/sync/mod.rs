//! Between tasks: channels and locks.
//!
//! Two families. What lies here works between threads: each end may be on another context, or on a
//! plain thread. What lies in [`local`] stays on one thread and costs no atomics.
//!
//! | | between threads | on one thread |
//! |---|---|---|
//! | many to one | [`channel`](channel()) | [`local::mpsc`] |
//! | two numbers, to a context | [`messages`](messages()) | |
//! | one value, once | [`oneshot`](oneshot()) | [`local::oneshot`] |
//! | the latest value | [`watch`](watch()) | |
//! | turns, permits, events | | [`local::Mutex`], [`local::RwLock`], [`local::Semaphore`], [`local::Notify`], [`local::Barrier`] |
//!
//! None of them loses anything when a waiting future is dropped: each says what becomes of it.

pub mod channel;
pub mod local;
pub mod messages;
pub mod oneshot;
mod ring;
mod send_message;
mod streak;
pub mod watch;

pub(crate) use crate::runtime::park::{park_until, wait};
pub use channel::channel;
pub use messages::messages;
pub use oneshot::oneshot;
pub use watch::watch;
