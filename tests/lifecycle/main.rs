//! Lifecycle: what happens to tasks, scopes, wakers and operations from their start to their end,
//! on every driver. What single operations do is the conformance suite's part.

#[macro_use]
#[path = "../support/drivers.rs"]
mod drivers;
mod every;
mod support;

mod cancelling;
mod combining;
mod dropping;
mod everywhere;
mod executor;
mod leaking;
mod moving;
mod queues;
mod running;
mod teardown;
mod threads;
mod timing;
mod waking;
