//! `sync::local`: locks and channels of one thread.

mod cloning;
mod contention;
mod wakers;
