//! Rings of the load generator.

use anyhow::{Context, Result, bail};
use io_uring::IoUring;
use io_uring::types::{SubmitArgs, Timespec};

use super::connection::LIMIT;

/// Creates a ring with room for two entries per connection.
pub(super) fn ring(entries: usize) -> Result<IoUring> {
    let entries = (2 * entries).next_power_of_two().max(64) as u32;
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize((2 * entries).min(65_536))
        .build(entries.min(32_768))
        .context("the load generator needs io_uring and Linux 6.1 or newer")
}

/// Submits, and waits for a completion, at most for `LIMIT`.
pub(super) fn wait(ring: &IoUring) -> Result<()> {
    let limit = Timespec::from(LIMIT);
    let arguments = SubmitArgs::new().timespec(&limit);
    match ring.submitter().submit_with_args(1, &arguments) {
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => {
            bail!("no answer for {LIMIT:?}")
        }
        result => result.map(drop).context("waiting for answers"),
    }
}
