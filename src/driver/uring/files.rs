//! The ring's table of registered files (`IORING_REGISTER_FILES`).
//!
//! Queued entries name slots by number. So they are submitted, by which the kernel takes a
//! reference to the file itself, before a slot changes.
//!
//! A table that is unregistered by the program is emptied and kept for the next one: kernels before
//! 6.13 remove a table only when no operation in flight has its file from it, and block the thread
//! until then. So only a table that turns out too small is really removed.

use std::io;

use super::Uring;
use crate::driver::setup::MAX_SLOTS;

/// The table that the kernel has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    /// Its number of slots; 0: there is no table.
    slots: u32,
    /// A program has registered it, and not unregistered it since.
    taken: bool,
}

pub(super) fn register(driver: &mut Uring, slots: u32) -> io::Result<()> {
    if driver.table.taken {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    if slots > MAX_SLOTS {
        // Before the fallback below allocates a list of that length.
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if slots > driver.table.slots {
        if driver.table.slots > 0 {
            driver.flush()?;
            driver.syscalls += 1;
            driver.ring.submitter().unregister_files()?;
            driver.table.slots = 0;
        }
        driver.syscalls += 1;
        match driver.ring.submitter().register_files_sparse(slots) {
            // Before 5.19: a table from an explicit list of empty slots.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && slots > 0 => {
                driver.ring.submitter().register_files(&vec![-1; slots as usize])
            }
            result => result,
        }?;
        driver.table.slots = slots;
    }
    driver.table.taken = true;
    Ok(())
}

pub(super) fn update(driver: &mut Uring, slot: u32, fd: i32) -> io::Result<()> {
    driver.flush()?;
    driver.syscalls += 1;
    driver.ring.submitter().register_files_update(slot, &[fd]).map(drop)
}

pub(super) fn unregister(driver: &mut Uring) -> io::Result<()> {
    driver.flush()?;
    driver.table.taken = false;
    driver.syscalls += 1;
    let empty = vec![-1; driver.table.slots as usize];
    driver.ring.submitter().register_files_update(0, &empty).map(drop)
}
