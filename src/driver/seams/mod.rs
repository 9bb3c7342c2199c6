//! The seams: the system calls that the crate makes outside of operations.
//!
//! An operation reaches the system through the driver of its context. Some calls need no operation,
//! as the system answers them at once: the time, a new socket, its address, its options, the
//! addresses of a name. They all go through this module, so that there is one place where a driver
//! can answer instead of the system: a simulated world has a clock, a network and a resolver of its
//! own. Each function documents what that world decides there.
//!
//! Nothing in `net`, `fs`, `server` and `time` asks the system for these by another way;
//! `.ci/seams` searches for calls that do.
//!
//! The crate takes no random numbers: timers are ordered by deadline, ports are chosen by the
//! system, and nothing depends on the iteration order of a hash map. A first use adds a file here.

pub(crate) mod clock;
pub(crate) mod fd_limit;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod sockets;
