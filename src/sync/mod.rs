//! Between tasks: channels and locks.
//!
//! Two families. What lies here works between threads: each end may be on another context, or on a
//!
//! | | between threads | on one thread |
//! |---|---|---|
//! | the latest value | [`watch`](watch()) | |
//!
//! None of them loses anything when a waiting future is dropped: each says what becomes of it.

mod blocking;
pub mod channel;
pub mod oneshot;
pub mod watch;

pub(crate) use blocking::{park_until, wait};
pub use channel::channel;
pub use oneshot::oneshot;
pub use watch::watch;
