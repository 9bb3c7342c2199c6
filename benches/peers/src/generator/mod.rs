//! The load generator: many connections from one thread, each answer compared byte by byte.
//!
//! In a **closed loop** every connection has one request in flight at all times: that measures
//! throughput. In an **open loop** requests are due at fixed times, whether the server has kept up
//! or not, and a latency counts from when the request was *due*: a server that stalls cannot hide
//! the requests that would have arrived meanwhile (coordinated omission; G. Tene, "How NOT to
//! Measure Latency", 2013).

mod answer;
mod churn;
mod connection;
mod epoll;
mod ring;
mod tally;
mod uring;

pub(crate) use answer::Expected;
pub(crate) use churn::churn;
pub(crate) use connection::ClosedLoop;
pub(crate) use epoll::EpollGenerator;
pub(crate) use tally::{Outcome, Until};
pub(crate) use uring::Generator;
