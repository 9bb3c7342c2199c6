//! Creates a readiness driver: a selector, a pool without threads yet, and room for events.

use crate::os;
use std::io;

use super::Readiness;
use super::queue::Queue;
use super::selector::Selector;
use super::table::Table;
use crate::driver::pool::Pool;
use crate::driver::recv_queue::Filler;
use crate::driver::sys::SigPipeBlock;
use crate::driver::{Settings, SetupError};

pub(super) fn build(settings: &Settings) -> Result<Readiness, SetupError> {
    let queue_sizes = settings.sizes()?;
    let events = queue_sizes.0.next_power_of_two();
    let selector = Selector::new(events as usize).map_err(explain)?;
    let sigpipe = SigPipeBlock::new();
    let pool = Pool::new(settings.blocking_threads, selector.notifier(), sigpipe.get());
    Ok(Readiness {
        selector,
        pool,
        #[cfg(target_os = "linux")]
        opens: super::disk::Opens::default(),
        sigpipe,
        filler: Filler::default(),
        queue_sizes: (events, queue_sizes.1.next_power_of_two()),
        table: Table::default(),
        ended: Queue::default(),
        paused: Queue::default(),
        paused_until: None,
        waiting: 0,
        away: 0,
        closing: 0,
        slots: None,
        syscalls: 0,
    })
}

fn explain(error: io::Error) -> SetupError {
    match error.raw_os_error() {
        Some(os::EMFILE | os::ENFILE) => SetupError::Descriptors(error),
        _ => SetupError::Other(error),
    }
}
