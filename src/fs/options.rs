//! Options for opening a file.

use crate::os;
use std::io;
use std::path::Path;

use super::File;
use crate::op::AsyncOpen;
use crate::runtime::poll_budget::consume_budget;

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
        ///
        /// # Examples
        /// ```
        /// use corio::fs::OpenOptions;
        #[doc = concat!("let options = OpenOptions::new().", stringify!($name), "(true);")]
        /// ```
        pub fn $name(mut self, $name: bool) -> Self {
            self.$name = $name;
            self
        }
    )+};
}

impl OpenOptions {
    /// Creates options with every switch off; set at least one of `read`, `write` and `append`.
    ///
    /// # Examples
    /// See [`OpenOptions`].
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
        /// Truncates the file to 0 bytes; needs `write`.
        truncate,
        /// Creates the file if it does not exist; needs `write` or `append`.
        create,
        /// Creates the file, and fails with `AlreadyExists` if it exists (`O_EXCL`); needs `write`
        /// or `append`.
        create_new,
    }

    /// Sets the permissions of a file that is created, before the umask; default `0o666`. Ignored
    /// on Windows.
    ///
    /// # Examples
    /// ```
    /// use corio::fs::OpenOptions;
    /// let private = OpenOptions::new().write(true).create(true).mode(0o600);
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Adds `O_*` flags of `open(2)`, such as `O_DIRECT`; those for the access mode are ignored.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(unix)]
    /// let file = corio::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW);
    /// ```
    pub fn custom_flags(mut self, flags: i32) -> Self {
        self.custom_flags = flags;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// The error of `open(2)`, such as `NotFound`; `InvalidInput` for a path with a NUL byte, and
    /// for options that contradict each other, such as `truncate` without `write`.
    ///
    /// # Examples
    /// See [`OpenOptions`].
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = match self.flags() {
            Ok(flags) => flags,
            Err(error) => {
                consume_budget().await;
                return Err(error);
            }
        };
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
            (false, false, false) => {
                return Err(invalid("OpenOptions: set `read`, `write` or `append`"));
            }
        };
        let writes = self.write || self.append;
        if !writes && (self.truncate || self.create || self.create_new) {
            return Err(invalid(
                "OpenOptions: `create`, `create_new` and `truncate` need `write` or `append`",
            ));
        }
        if self.append && self.truncate && !self.create_new {
            return Err(invalid("OpenOptions: `append` and `truncate` exclude each other"));
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
