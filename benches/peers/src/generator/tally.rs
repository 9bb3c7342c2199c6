//! What a load has asked and been answered, and whether it goes on.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// When to stop asking.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Elapsed(Duration),
    Answers(u64),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    pub(crate) wall: Duration,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

pub(super) struct Tally {
    pub(super) start: Instant,
    pub(super) asked: u64,
    pub(super) answers: u64,
    latencies: Histogram<u64>,
}

impl Tally {
    pub(super) fn start() -> Self {
        // For latencies of up to 100 s, to 0.1 %.
        let latencies =
            Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are valid");
        Tally { latencies, asked: 0, answers: 0, start: Instant::now() }
    }

    /// `true`: one more is to be asked, and is counted as asked.
    pub(super) fn asks(&mut self, until: Until, now: Instant) -> bool {
        let goes_on = match until {
            Until::Elapsed(length) => now - self.start < length,
            Until::Answers(most) => self.asked < most,
        };
        self.asked += u64::from(goes_on);
        goes_on
    }

    pub(super) fn answered(&mut self, latency: Duration) {
        self.answers += 1;
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome { answers: self.answers, wall: self.start.elapsed(), latencies: self.latencies }
    }
}
