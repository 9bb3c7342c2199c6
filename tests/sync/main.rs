//! Channels, messages between contexts, and the locks and channels of one thread.

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod channels;
mod cloning;
mod local;
mod messages;
