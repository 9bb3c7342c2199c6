//! The ring's table of registered files.
//!
//! Entries that are queued name slots by number, so they are handed to the kernel, which then
//! holds the file itself, before a slot changes.
//!
//! A table that is given up is emptied and kept for the next: kernels before 6.13 take one away only
//! when no operation in flight has its file from it, and hold the thread up until then. So only a
//! table that turns out too small is really taken away.

use std::io;

use super::Uring;
use crate::driver::setup::MAX_SLOTS;

/// What the kernel has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    /// Its number of slots; 0: there is none.
    slots: u32,
    /// Somebody uses it.
    taken: bool,
}

pub(super) fn register(driver: &mut Uring, slots: u32) -> io::Result<()> {
    if driver.table.taken {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    if slots > MAX_SLOTS {
        // Before the long way below makes a list of as many.
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if slots > driver.table.slots {
        if driver.table.slots > 0 {
            driver.flush()?;
            driver.syscalls += 1;
            driver.submitter.unregister_files()?;
            driver.table.slots = 0;
        }
        driver.syscalls += 1;
        match driver.submitter.register_files_sparse(slots) {
            // Before 5.19: a table of empty slots the long way.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && slots > 0 => {
                driver.submitter.register_files(&vec![-1; slots as usize])
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
    driver.submitter.register_files_update(slot, &[fd]).map(drop)
}

pub(super) fn unregister(driver: &mut Uring) -> io::Result<()> {
    driver.flush()?;
    driver.table.taken = false;
    driver.syscalls += 1;
    let empty = vec![-1; driver.table.slots as usize];
    driver.submitter.register_files_update(0, &empty).map(drop)
}
