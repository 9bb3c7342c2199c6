//! The path below the root that a request's target names.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::authority;

/// Characters that are not percent-encoded in a URL's path.
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The target is malformed, or leads above the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

/// A decoded path relative to the root: no empty, `.` or `..` component, no NUL byte.
///
/// It is parsed in place, so that a connection needs one allocation for all its requests.
#[derive(Clone)]
pub(crate) struct UrlPath {
    /// Ends with a NUL, for system calls.
    bytes: Vec<u8>,
    /// Whether the target ended with a slash.
    slash: bool,
}

impl UrlPath {
    /// The root itself.
    pub(crate) fn new() -> Self {
        UrlPath { bytes: vec![0], slash: true }
    }

    /// Takes the path of a request target, in origin form (`/a/b?query`) or absolute form
    /// (`http://host/a/b`).
    pub(crate) fn parse(&mut self, target: &str) -> Result<(), BadPath> {
        let path = origin(target).ok_or(BadPath)?;
        let path = path.split('?').next().unwrap_or_default();
        self.bytes.clear();
        // Decoded before it is split: an encoded slash is a slash, and `%2e%2e` is `..`.
        for byte in Decoder(path.as_bytes().iter()) {
            match byte? {
                0 => return Err(BadPath),
                byte => self.bytes.push(byte),
            }
        }
        self.normalise()
    }

    /// Removes empty, `.` and `..` components, in place. The first byte is a slash, so the result
    /// is always shorter than the part already read.
    fn normalise(&mut self) -> Result<(), BadPath> {
        let mut kept = 0;
        let mut start = 0;
        while start < self.bytes.len() {
            let rest = &self.bytes[start..];
            let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            self.slash = len < rest.len() || matches!(&rest[..len], b"." | b"..");
            match &rest[..len] {
                b"" | b"." => {}
                b".." => kept = parent(&self.bytes[..kept]).ok_or(BadPath)?,
                _ => {
                    if kept > 0 {
                        self.bytes[kept] = b'/';
                        kept += 1;
                    }
                    self.bytes.copy_within(start..start + len, kept);
                    kept += len;
                }
            }
            start += len + 1;
        }
        self.bytes.truncate(kept);
        self.bytes.push(0);
        Ok(())
    }

    /// Goes down to `name`, which is one component.
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.bytes.pop();
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.slash = false;
    }

    /// Undoes a [`push`](Self::push) onto a directory's path.
    pub(crate) fn leave(&mut self) {
        let parent = parent(self.bytes()).unwrap_or(0);
        self.bytes.truncate(parent);
        self.bytes.push(0);
        self.slash = true;
    }

    /// Whether the target ended with a slash, and so can only be a directory.
    pub(crate) fn ends_with_slash(&self) -> bool {
        self.slash
    }

    /// The path without its NUL; empty for the root.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - 1]
    }

    /// The path for a system call, `.` for the root.
    pub(crate) fn as_c_str(&self) -> &CStr {
        if self.bytes.len() == 1 {
            return c".";
        }
        CStr::from_bytes_with_nul(&self.bytes).expect("no NUL gets into a path but its last byte")
    }

    /// The path for `std`.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }
}

/// How long the path of `path`'s parent is; `None` for the root, which has none.
fn parent(path: &[u8]) -> Option<usize> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|&byte| byte == b'/').unwrap_or(0))
}

/// Encodes a path or a name for a URL.
pub(crate) fn encode(bytes: &[u8]) -> percent_encoding::PercentEncode<'_> {
    percent_encode(bytes, UNRESERVED)
}

/// The part of a target from its path's slash on. A fragment does not belong into a request.
fn origin(target: &str) -> Option<&str> {
    if target.contains('#') {
        return None;
    }
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let path = if path.starts_with('/') { path } else { "/" };
    authority::is_authority(host).then_some(path)
}

/// Percent-decoding; a percent sign must be followed by two hexadecimal digits.
struct Decoder<'a>(std::slice::Iter<'a, u8>);

impl Iterator for Decoder<'_> {
    type Item = Result<u8, BadPath>;

    fn next(&mut self) -> Option<Self::Item> {
        let byte = *self.0.next()?;
        if byte != b'%' {
            return Some(Ok(byte));
        }
        let mut digit = || char::from(*self.0.next()?).to_digit(16);
        let byte = digit().and_then(|high| Some(high * 16 + digit()?));
        Some(byte.map(|byte| byte as u8).ok_or(BadPath))
    }
}
