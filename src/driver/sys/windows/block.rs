//! Requests on files, carried out on a thread that may block.

// # Why this file has `unsafe`
// It uses memory that a request names, and files by their numbers.

use std::borrow::Cow;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_DIRECTORY};
use windows_sys::Win32::Storage::FileSystem::{GetFinalPathNameByHandleW, VOLUME_NAME_DOS};

use super::{SigPipe, is_socket, made, outcome, socket};
use crate::driver::{CURRENT_POSITION, Request};
use crate::os::{self, RawFd, Stat};

/// Allows a directory to be opened, too.
const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;

/// Borrows the file of that number, which its owner keeps open and closes.
pub(in crate::driver) fn file(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the value is never dropped; calls on a number that is no file fail.
    ManuallyDrop::new(unsafe { File::from_raw_handle(os::raw_handle(fd)) })
}

/// Carries a request out, and blocks for as long as that takes; returns its result, or a negated
/// error number.
///
/// # Safety
/// Clauses 1 and 2 of the [contract](crate::driver) hold for all memory that the request points to.
pub(in crate::driver) unsafe fn block(request: Request, _: SigPipe) -> i32 {
    use Request::*;
    // SAFETY: in every arm the call gets only pointers of the request, with the lengths that belong
    // to them: by clause 1 that memory is in place, by clause 2 the call may use it. A path was
    // made by this crate from one of `std`; a file that is closed belongs to the operation.
    unsafe {
        match request {
            Read { fd, ptr, len, offset } => read_at(fd.fd, ptr, len, offset),
            Write { fd, ptr, len, offset } => write_at(fd.fd, ptr, len, offset),
            Readv { fd, iov, count, offset } => {
                each(iov, count, offset, |ptr, len, offset| read_at(fd.fd, ptr, len, offset))
            }
            Writev { fd, iov, count, offset } => {
                each(iov, count, offset, |ptr, len, offset| write_at(fd.fd, ptr, len, offset))
            }
            Open { dir, path, flags, .. } => {
                match start_from(dir, path_of(path)).and_then(|path| open(&path, flags)) {
                    Ok(file) => made(file.into()),
                    Err(error) => outcome(Err(error)),
                }
            }
            Close { fd, .. } => {
                if is_socket(fd) {
                    // In non-blocking mode, the close of a socket that lingers would fail.
                    let _ = socket(fd).set_nonblocking(false);
                    drop(os::owned_socket(fd));
                } else {
                    drop(os::owned_file(fd));
                }
                0
            }
            Call { call, args, .. } => call.perform(args.as_ref()),
            Statx { dir, path, flags, out } => {
                let path = path_of(path);
                let metadata = if flags & os::AT_EMPTY_PATH != 0 {
                    file(dir).metadata()
                } else if flags & os::AT_SYMLINK_NOFOLLOW != 0 {
                    path.symlink_metadata()
                } else {
                    path.metadata()
                };
                outcome(metadata.map(|metadata| {
                    out.write(stat(&metadata));
                    0
                }))
            }
            Nop
            | Accept { .. }
            | Connect { .. }
            | Recv { .. }
            | RecvProvided { .. }
            | Send { .. }
            | Recvmsg { .. }
            | Sendmsg { .. }
            | Poll { .. }
            | Sendfile { .. } => unreachable!("{request:?} has no call that blocks"),
        }
    }
}

/// # Safety
/// The path was made by this crate from one of `std`, ends with a NUL, and is in place during `'a`.
pub(in crate::driver) unsafe fn path_of<'a>(path: *const os::c_char) -> &'a Path {
    // SAFETY: this function's only item.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    // SAFETY: a path of `std` was turned into these bytes by `as_encoded_bytes`.
    Path::new(unsafe { OsStr::from_encoded_bytes_unchecked(bytes) })
}

/// Returns a path that starts from an open directory, by the name that the directory has at
/// present: Windows has no documented call that takes both.
pub(in crate::driver) fn start_from(dir: RawFd, path: &Path) -> io::Result<Cow<'_, Path>> {
    if dir == os::AT_FDCWD || path.is_absolute() {
        return Ok(path.into());
    }
    let dir = file(dir);
    if !dir.metadata()?.is_dir() {
        return Err(io::Error::from_raw_os_error(ERROR_DIRECTORY as i32));
    }
    let mut name = vec![0; 512];
    loop {
        let room = u32::try_from(name.len()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open, and `name` has room for that many characters.
        let len = unsafe {
            GetFinalPathNameByHandleW(dir.as_raw_handle(), name.as_mut_ptr(), room, VOLUME_NAME_DOS)
        } as usize;
        match len {
            0 => return Err(io::Error::last_os_error()),
            // The length that is needed, with the NUL.
            len if len > name.len() => name.resize(len, 0),
            len => return Ok(PathBuf::from(OsString::from_wide(&name[..len])).join(path).into()),
        }
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    let has = |flag| flags & flag != 0;
    let access = flags & os::O_ACCMODE;
    OpenOptions::new()
        .read(access != os::O_WRONLY)
        .write(access != os::O_RDONLY && !has(os::O_APPEND))
        .append(has(os::O_APPEND))
        .truncate(has(os::O_TRUNC))
        .create(has(os::O_CREAT) && !has(os::O_EXCL))
        .create_new(has(os::O_CREAT) && has(os::O_EXCL))
        .custom_flags(if access == os::O_RDONLY { FILE_FLAG_BACKUP_SEMANTICS } else { 0 })
        .open(path)
}

/// Returns the outcome of a transfer. A file that was not opened for it is a bad descriptor, as
/// elsewhere.
fn right(result: io::Result<usize>) -> i32 {
    match outcome(result) {
        error if error == -(ERROR_ACCESS_DENIED as i32) => -os::EBADF,
        result => result,
    }
}

/// Reads; at the end of the file that is 0 bytes, not an error.
///
/// # Safety
/// `len` bytes at `ptr` are valid for writes.
pub(super) unsafe fn read_at(fd: RawFd, ptr: *mut u8, len: u32, offset: u64) -> i32 {
    if len == 0 {
        return 0;
    }
    // SAFETY: this function's only item. The bytes may be uninitialised, but the slice goes to the
    // system alone, which only writes to it.
    let buffer = unsafe { std::slice::from_raw_parts_mut(ptr, len as usize) };
    let mut file = file(fd);
    right(match offset {
        CURRENT_POSITION => file.read(buffer),
        offset => file.seek_read(buffer, offset),
    })
}

/// # Safety
/// `len` bytes at `ptr` are initialised and valid for reads.
unsafe fn write_at(fd: RawFd, ptr: *const u8, len: u32, offset: u64) -> i32 {
    if len == 0 {
        return 0;
    }
    // SAFETY: this function's only item.
    let bytes = unsafe { std::slice::from_raw_parts(ptr, len as usize) };
    let mut file = file(fd);
    right(match offset {
        CURRENT_POSITION => file.write(bytes),
        offset => file.seek_write(bytes, offset),
    })
}

/// Transfers one buffer after the other, up to the first that is not moved as a whole.
///
/// # Safety
/// `iov` points to `count` entries.
unsafe fn each(
    iov: *const os::iovec,
    count: u32,
    mut offset: u64,
    mut call: impl FnMut(*mut u8, u32, u64) -> i32,
) -> i32 {
    let mut total = 0i32;
    for index in 0..count as usize {
        // SAFETY: this function's only item; the index is below `count`.
        let one = unsafe { *iov.add(index) };
        let len = one.iov_len.min((i32::MAX - total) as usize) as u32;
        let result = call(one.iov_base.cast(), len, offset);
        if result < 0 {
            return if total > 0 { total } else { result };
        }
        total += result;
        if offset != CURRENT_POSITION {
            offset += result as u64;
        }
        if (result as u32) < len {
            break;
        }
    }
    total
}

/// Extends the file; space is not reserved.
pub(in crate::driver) fn fallocate(file: &File, mode: i32, offset: u64, len: u64) -> i32 {
    if mode != 0 {
        return -os::EOPNOTSUPP;
    }
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
    let Some(end) = end.filter(|_| len > 0) else { return -os::EINVAL };
    outcome(file.metadata().and_then(|metadata| {
        if metadata.len() < end {
            file.set_len(end)?;
        }
        Ok(0)
    }))
}

fn stat(metadata: &Metadata) -> Stat {
    let kind = metadata.file_type();
    let mode = if kind.is_symlink() {
        os::S_IFLNK
    } else if kind.is_dir() {
        os::S_IFDIR
    } else if kind.is_file() {
        os::S_IFREG
    } else {
        0
    };
    Stat {
        size: metadata.len(),
        mode,
        modified: metadata.modified().ok().map(since_1970),
        accessed: metadata.accessed().ok().map(since_1970),
        created: metadata.created().ok().map(since_1970),
    }
}

fn since_1970(time: SystemTime) -> (i64, u32) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let nanoseconds = before.subsec_nanos();
            let seconds = before.as_secs() as i64;
            match nanoseconds {
                0 => (-seconds, 0),
                some => (-seconds - 1, 1_000_000_000 - some),
            }
        }
    }
}
