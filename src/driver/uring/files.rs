//! The ring's table of registered files.
//!
//! Entries that are queued name slots by number, so they are handed to the kernel, which then
//! holds the file itself, before a slot changes.

use std::io;

use super::Uring;

pub(super) fn register(driver: &mut Uring, slots: u32) -> io::Result<()> {
    driver.syscalls += 1;
    match driver.submitter.register_files_sparse(slots) {
        // Before 5.19: a table of empty slots the long way.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && slots > 0 => {
            driver.submitter.register_files(&vec![-1; slots as usize])
        }
        result => result,
    }
}

pub(super) fn update(driver: &mut Uring, slot: u32, fd: i32) -> io::Result<()> {
    driver.flush()?;
    driver.syscalls += 1;
    driver.submitter.register_files_update(slot, &[fd]).map(drop)
}

pub(super) fn unregister(driver: &mut Uring) -> io::Result<()> {
    driver.flush()?;
    driver.syscalls += 1;
    driver.submitter.unregister_files()
}
