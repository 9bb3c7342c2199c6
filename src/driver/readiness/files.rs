//! Emulates the table of registered files, which only a ring has: its size and its errors. A file
//! is used by its fd, which every [`Target`](crate::driver::Target) contains.

use crate::os;
use std::io;

use super::Readiness;
use crate::driver::setup::MAX_SLOTS;

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

pub(super) fn register(driver: &mut Readiness, slots: u32) -> io::Result<()> {
    if driver.slots.is_some() {
        return error(os::EBUSY);
    }
    if slots > MAX_SLOTS || u64::from(slots) > crate::driver::sys::file_limit() {
        return error(os::EMFILE);
    }
    driver.slots = Some(slots);
    Ok(())
}

pub(super) fn update(driver: &mut Readiness, slot: u32, _fd: i32) -> io::Result<()> {
    match driver.slots {
        None => error(os::ENXIO),
        Some(slots) if slot >= slots => error(os::EINVAL),
        Some(_) => Ok(()),
    }
}

pub(super) fn unregister(driver: &mut Readiness) -> io::Result<()> {
    match driver.slots.take() {
        None => error(os::ENXIO),
        Some(_) => Ok(()),
    }
}
