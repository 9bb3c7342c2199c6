//! Error numbers by their names on Unix.

#[cfg(unix)]
pub(crate) use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EBUSY, ECANCELED, EDESTADDRREQ, EINVAL,
    ELOOP, EMFILE, EMSGSIZE, ENAMETOOLONG, ENOSYS, ENOTDIR, ENOTSOCK, EOPNOTSUPP, EPERM, EPIPE,
    ESPIPE,
};

/// The error codes of Windows instead.
#[cfg(windows)]
mod windows {
    pub(crate) const ENOTDIR: i32 = 267; // ERROR_DIRECTORY
    pub(crate) const EBADF: i32 = 6; // ERROR_INVALID_HANDLE
    pub(crate) const EBUSY: i32 = 170; // ERROR_BUSY
    pub(crate) const EMFILE: i32 = 10_024; // WSAEMFILE
    pub(crate) const EINVAL: i32 = 87; // ERROR_INVALID_PARAMETER
    pub(crate) const EPIPE: i32 = 109; // ERROR_BROKEN_PIPE
    pub(crate) const ECANCELED: i32 = 1223; // ERROR_CANCELLED
    pub(crate) const ENOTSOCK: i32 = 10_038;
    pub(crate) const EDESTADDRREQ: i32 = 10_039;
    pub(crate) const EMSGSIZE: i32 = 10_040;
    pub(crate) const EOPNOTSUPP: i32 = 10_045;
    pub(crate) const EAFNOSUPPORT: i32 = 10_047;
    pub(crate) const EADDRINUSE: i32 = 10_048;
    pub(crate) const EADDRNOTAVAIL: i32 = 10_049;
}
#[cfg(windows)]
pub(crate) use windows::*;
