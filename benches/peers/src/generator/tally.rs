//! Counts requests and answers, records latencies, and decides when a load ends.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    Answers(u64),
}

/// The measurements of a load.
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    pub(crate) wall: Duration,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

pub(super) struct Tally {
    pub(super) start: Instant,
    pub(super) sent: u64,
    pub(super) answers: u64,
    latencies: Histogram<u64>,
}

impl Tally {
    pub(super) fn start() -> Self {
        // For latencies of up to 100 s, to 0.1 %.
        let latencies =
            Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are valid");
        Tally { latencies, sent: 0, answers: 0, start: Instant::now() }
    }

    /// Returns `true`, and counts a request as sent, unless the load has ended.
    pub(super) fn may_send(&mut self, until: Until, now: Instant) -> bool {
        let may_send = match until {
            Until::Elapsed(length) => now - self.start < length,
            Until::Answers(most) => self.sent < most,
        };
        self.sent += u64::from(may_send);
        may_send
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.answers += 1;
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome { answers: self.answers, wall: self.start.elapsed(), latencies: self.latencies }
    }
}
