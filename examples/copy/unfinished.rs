//! A file that is not at its destination yet.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

/// A file that appears at its destination when it is [published](Self::publish), and never else.
pub(crate) enum Unfinished {
    /// A file without a name, and its directory. Whatever ends the process, SIGKILL included, the
    /// system removes such a file.
    Unnamed(PathBuf),
    /// A file with a temporary name, where the file system has no files without names. The name is
    /// removed when this is dropped.
    Named(TempPath),
}

impl Unfinished {
    /// Creates a file beside `dst` that only its owner may read and write.
    pub(crate) fn create(dst: &Path) -> io::Result<(Self, File)> {
        let directory = directory_of(dst);
        match create_unnamed(directory)? {
            Some(file) => Ok((Unfinished::Unnamed(directory.to_owned()), file)),
            None => {
                let named = temporary().tempfile_in(directory)?;
                let (file, path) = named.into_parts();
                Ok((Unfinished::Named(path), file))
            }
        }
    }

    /// Gives `file`, which was created with this, the name `dst`, in one step. An existing file is
    /// replaced, or an error.
    pub(crate) fn publish(self, file: impl AsFd, dst: &Path, replace: bool) -> io::Result<()> {
        match self {
            Unfinished::Named(path) if replace => Ok(path.persist(dst)?),
            Unfinished::Named(path) => Ok(path.persist_noclobber(dst)?),
            Unfinished::Unnamed(directory) => match give_name(&file, dst) {
                // No system call names a file and replaces another. So it gets a temporary name
                // for a moment.
                Err(error) if replace && error.kind() == io::ErrorKind::AlreadyExists => {
                    let named: NamedTempFile<()> =
                        temporary().make_in(directory, |path| give_name(&file, path))?;
                    Ok(named.into_temp_path().persist(dst)?)
                }
                named => named,
            },
        }
    }
}

/// Returns the way in which temporary names are made.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".copy-");
    builder
}

/// Creates a file without a name (`O_TMPFILE` of `open(2)`), unless the system cannot create one,
/// or cannot name it later.
#[cfg(target_os = "linux")]
fn create_unnamed(directory: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    options.write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    match options.open(directory) {
        Ok(file) => Ok(path_of(&file).is_symlink().then_some(file)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EISDIR) => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(not(target_os = "linux"))]
fn create_unnamed(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Names a file that has no name. `open(2)` recommends this way under `O_TMPFILE`.
fn give_name(file: &impl AsFd, name: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, path_of(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

fn path_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
