//! The parts of a file that are not holes.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

/// Returns the first range of data that begins at `from` or later, before `len`; `None` if there
/// are only holes from there on. See `SEEK_DATA` in `lseek(2)`.
///
/// Where the file system knows no holes, everything is data.
#[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
pub(crate) fn next_data(file: impl AsFd, from: u64, len: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    if from >= len {
        return Ok(None);
    }
    let start = match seek(&file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS | Errno::SPIPE) => from,
        Err(error) => return Err(error.into()),
    };
    let end = match seek(&file, SeekFrom::Hole(start)) {
        Ok(end) if end > start => end.min(len),
        // The file has changed in between; reading it finds out how.
        _ => len,
    };
    Ok((start < len).then_some(start..end))
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
pub(crate) fn next_data(_: impl AsFd, from: u64, len: u64) -> io::Result<Option<Range<u64>>> {
    Ok((from < len).then_some(from..len))
}
