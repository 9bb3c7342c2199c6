//! Channels and locks between tasks of one thread: no atomics, no system calls.
//!
//! All of them are fair (first come, first served), and a future that is dropped while it waits
//! loses nothing: what it had been granted goes to the next. Waiting allocates nothing once the
//! list of waiting tasks has grown.

mod barrier;
pub mod mpsc;
mod mutex;
mod notify;
pub mod oneshot;
mod rwlock;
mod semaphore;
mod wait_list;

pub use barrier::{Barrier, BarrierWait};
pub use mutex::{Mutex, MutexGuard};
pub use notify::{Notified, Notify};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, AcquireOwned, Closed, OwnedPermit, Permit, Semaphore};
