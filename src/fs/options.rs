//! How a file is to be opened.

use crate::os;
use std::io;
use std::path::Path;

use super::File;
use crate::op::AsyncOpen;

/// Options for opening a file, as `std::fs::OpenOptions` has them.
///
/// # Examples
/// ```
/// use corio::fs::OpenOptions;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("log");
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let log = OpenOptions::new().append(true).create(true).open(&path).await?;
/// log.write_at("one line\n", 0).await.0?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
    custom_flags: i32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! switches {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: bool) -> Self {
            self.$name = $name;
            self
        }
    )+};
}

impl OpenOptions {
    /// Nothing is allowed yet.
    pub fn new() -> Self {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    switches! {
        /// Allows reading.
        read,
        /// Allows writing.
        write,
        /// Allows writing, always at the end of the file, whatever the offset (`O_APPEND`).
        append,
        /// Empties the file.
        truncate,
        /// Creates the file if it is not there.
        create,
        /// Creates the file, and fails if it is there.
        create_new,
    }

    /// The permissions of a file that is created, before the umask; default `0o666`.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// More `O_*` flags, such as `O_DIRECT`.
    pub fn custom_flags(mut self, flags: i32) -> Self {
        self.custom_flags = flags;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// What `open(2)` reports; `InvalidInput` for a path with a NUL byte, and for options that
    /// make no sense, such as truncating without writing.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = self.flags()?;
        let fd = AsyncOpen::new(path, flags, self.mode).await?;
        Ok(File::opened(fd, flags))
    }

    fn flags(&self) -> io::Result<i32> {
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => os::O_RDONLY,
            (false, true, false) => os::O_WRONLY,
            (true, true, false) => os::O_RDWR,
            (false, _, true) => os::O_WRONLY | os::O_APPEND,
            (true, _, true) => os::O_RDWR | os::O_APPEND,
            (false, false, false) => return Err(invalid("neither read, write nor append is set")),
        };
        let writes = self.write || self.append;
        if !writes && (self.truncate || self.create || self.create_new) {
            return Err(invalid("creating or truncating needs write or append"));
        }
        if self.append && self.truncate && !self.create_new {
            return Err(invalid("append and truncate exclude each other"));
        }
        let creation = match (self.create, self.truncate, self.create_new) {
            (false, false, false) => 0,
            (true, false, false) => os::O_CREAT,
            (false, true, false) => os::O_TRUNC,
            (true, true, false) => os::O_CREAT | os::O_TRUNC,
            (_, _, true) => os::O_CREAT | os::O_EXCL,
        };
        Ok(access | creation | (self.custom_flags & !os::O_ACCMODE))
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
