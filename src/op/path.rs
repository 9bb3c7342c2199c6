//! Paths as system calls take them.

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::path::Path;

use super::future::failed;
use super::source::Source;
use crate::os::{self, RawFd};

/// Paths up to this length, the final NUL included, need no allocation.
const INLINE: usize = 120;

/// A path, and the open directory that it starts from if it is relative.
pub struct PathAt<'a> {
    /// `None`: the current directory of the process.
    dir: Option<Source<'a>>,
    path: CPath,
}

/// A path with a final NUL, stored within the operation if it is short.
enum CPath {
    Inline([u8; INLINE]),
    Heap(Box<[u8]>),
    /// It contains a NUL byte, so it names no file.
    Invalid,
}

impl<'a> PathAt<'a> {
    pub(super) fn new(dir: Option<Source<'a>>, path: &Path) -> Self {
        PathAt { dir, path: CPath::new(path) }
    }

    /// Keeps the directory open; breaks with the error if there is none, or the path is invalid.
    pub(super) fn hold(&mut self) -> ControlFlow<i32> {
        if matches!(self.path, CPath::Invalid) {
            return failed(os::EINVAL);
        }
        self.dir.as_mut().map_or(ControlFlow::Continue(()), Source::hold)
    }

    /// The fd of the directory, once [held](Self::hold), or `AT_FDCWD`.
    pub(super) fn dir(&self) -> RawFd {
        self.dir.as_ref().map_or(os::AT_FDCWD, |dir| dir.target().fd)
    }

    /// The path with its final NUL. It is valid as long as this value exists and does not move.
    pub(super) fn as_ptr(&self) -> *const os::c_char {
        match &self.path {
            CPath::Inline(bytes) => bytes.as_ptr().cast(),
            CPath::Heap(bytes) => bytes.as_ptr().cast(),
            CPath::Invalid => std::ptr::null(),
        }
    }

    /// The same as an argument of a plain system call, which reads it only.
    pub(super) fn as_arg(&self) -> *mut c_void {
        self.as_ptr().cast_mut().cast()
    }
}

impl CPath {
    fn new(path: &Path) -> Self {
        // On Unix the path itself, on Windows an encoding that leads back to it.
        let bytes = path.as_os_str().as_encoded_bytes();
        if bytes.contains(&0) {
            return CPath::Invalid;
        }
        if bytes.len() < INLINE {
            let mut inline = [0; INLINE];
            inline[..bytes.len()].copy_from_slice(bytes);
            return CPath::Inline(inline);
        }
        let mut heap = Vec::with_capacity(bytes.len() + 1);
        heap.extend_from_slice(bytes);
        heap.push(0);
        CPath::Heap(heap.into_boxed_slice())
    }
}
