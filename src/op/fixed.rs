//! Registered files: fds that the kernel has looked up once.

use crate::os;
use crate::os::{AsRawFd, OwnedFd};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

use super::descriptor::Descriptor;
use crate::driver::Driver;
use crate::runtime::Runtime;

/// A context's table of registered files.
///
/// The kernel looks an fd up, and takes a reference to its file, for each operation; a registered
/// file is looked up once, which saves some 50 ns each time. Made by
/// [`FixedFiles::register`], within a running context, which can have one table at a time.
/// Dropping it (or [`unregister`](Self::unregister)) removes the table; while the context does not
/// run, that waits for its next run or its end.
///
/// Kernel: 5.13 or newer, like everything here; `io_uring_register(2)`, `IORING_REGISTER_FILES`.
///
/// # Examples
/// ```
/// use corio::op::{AsyncRead, FixedFiles};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let table = FixedFiles::register(16)?;
/// let zero = table.insert(std::fs::File::open("/dev/zero")?)?;
/// let (result, buf) = AsyncRead::new(&zero, vec![1; 4], 0).await;
/// assert_eq!((result?, buf), (4, vec![0; 4]));
///
/// // A handle whose slot has been given to another file is an error, never the wrong file.
/// table.update(&zero, std::fs::File::open("/dev/null")?)?;
/// let (result, _) = AsyncRead::new(&zero, vec![1; 4], 0).await;
/// assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FixedFiles {
    table: Rc<Table>,
}

struct Table {
    /// The runtime whose driver has the table.
    runtime_id: u64,
    slots: RefCell<Vec<Slot>>,
    registered: Cell<bool>,
    /// Tells the runtime that the table is to be removed when it runs next.
    orphaned: Rc<Cell<bool>>,
}

#[derive(Default)]
struct Slot {
    /// How often the slot has changed; a handle is good for one of these.
    generation: u64,
    file: Option<Rc<Descriptor>>,
}

/// A handle to one registered file, accepted wherever an operation takes an fd.
///
/// It is bound to the file it was made for. After that file's slot was
/// [updated](FixedFiles::update) or [removed](FixedFiles::remove), or the table unregistered,
/// operations on it fail with `EBADF`.
///
/// # Examples
/// See [`FixedFiles`].
#[derive(Clone)]
pub struct FixedFile {
    table: Weak<Table>,
    slot: u32,
    generation: u64,
}

fn bad_handle() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "stale handle of a registered file: its slot was updated or removed, its table was \
         unregistered, or it belongs to another table or context; use the handle that `insert` or \
         `update` returned last",
    )
}

/// Explains the error of making a second table.
#[cold]
fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(os::EBUSY) {
        return error;
    }
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        "this context has a table of registered files already: use or unregister that one",
    )
}

impl FixedFiles {
    /// Gives the running context a table of `slots` empty slots.
    ///
    /// # Errors
    /// `ResourceBusy` if it has one already; `InvalidInput` for no slots; the system's error
    /// (`EMFILE`) for more than the limit on open files (`RLIMIT_NOFILE`) or the kernel's own
    /// (1,048,576).
    ///
    /// # Panics
    /// When no context is running on this thread.
    #[track_caller]
    pub fn register(slots: u32) -> io::Result<Self> {
        Runtime::with(|runtime| {
            if slots == 0 {
                return Err(io::Error::from_raw_os_error(os::EINVAL));
            }
            runtime.driver(|driver| driver.register_files(slots)).map_err(explain)?;
            let table = Rc::new(Table {
                runtime_id: runtime.id,
                slots: RefCell::new((0..slots).map(|_| Slot::default()).collect()),
                registered: Cell::new(true),
                orphaned: runtime.orphaned_files.clone(),
            });
            Ok(FixedFiles { table })
        })
    }

    /// Returns the number of slots.
    pub fn capacity(&self) -> usize {
        self.table.slots.borrow().len()
    }

    /// Puts a file into a free slot. The table owns the fd from now on.
    ///
    /// # Errors
    /// `StorageFull` when no slot is free; `InvalidInput` in another context than the table's; else
    /// the kernel's error for the fd.
    pub fn insert(&self, file: impl Into<OwnedFd>) -> io::Result<FixedFile> {
        // First, as the conversion may use this table, too.
        let file = file.into();
        let free = self.table.slots.borrow().iter().position(|slot| slot.file.is_none());
        match free {
            Some(slot) => self.table.set(slot as u32, Some(file)),
            None => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no free slot in the table of registered files: remove one, or register more",
            )),
        }
    }

    /// Puts another file into the slot of `old`, which is stale from now on. Operations in flight
    /// on the old file go on with it.
    ///
    /// # Errors
    /// `InvalidInput` when `old` is stale already.
    pub fn update(&self, old: &FixedFile, file: impl Into<OwnedFd>) -> io::Result<FixedFile> {
        let file = file.into();
        self.check(old)?;
        self.table.set(old.slot, Some(file))
    }

    /// Empties the slot of `file`. Its fd is closed when no operation holds it any more.
    ///
    /// # Errors
    /// `InvalidInput` when it is stale already.
    pub fn remove(&self, file: &FixedFile) -> io::Result<()> {
        self.check(file)?;
        self.table.set(file.slot, None).map(drop)
    }

    /// Removes the table; every handle of it is stale from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unregister(self) -> io::Result<()> {
        self.table.unregister()
    }

    fn check(&self, file: &FixedFile) -> io::Result<()> {
        if !std::ptr::eq(file.table.as_ptr(), Rc::as_ptr(&self.table)) {
            return Err(bad_handle());
        }
        file.lookup().map(drop).map_err(|_| bad_handle())
    }
}

impl Drop for FixedFiles {
    fn drop(&mut self) {
        // The error has no receiver; if the context has ended, the table has ended with it.
        let _ = self.table.unregister();
    }
}

impl Table {
    /// Calls `f` with the runtime that has this table, if it is the one running here.
    fn with<R>(&self, f: impl FnOnce(&Runtime) -> R) -> io::Result<R> {
        Runtime::try_with(|runtime| match runtime {
            Some(runtime) if runtime.id == self.runtime_id && self.registered.get() => {
                Ok(f(runtime))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this table of registered files is not that of the running context: use it where \
                 it was registered",
            )),
        })
    }

    fn set(self: &Rc<Self>, slot: u32, file: Option<OwnedFd>) -> io::Result<FixedFile> {
        let fd = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        self.with(|runtime| runtime.driver(|driver| driver.update_file(slot, fd)))??;
        let mut slots = self.slots.borrow_mut();
        let entry = &mut slots[slot as usize];
        entry.generation += 1;
        entry.file = file.map(|fd| Rc::new(Descriptor::new(fd)));
        Ok(FixedFile { table: Rc::downgrade(self), slot, generation: entry.generation })
    }

    fn unregister(&self) -> io::Result<()> {
        if !self.registered.get() {
            return Ok(());
        }
        let result = self.with(|runtime| runtime.driver(|driver| driver.unregister_files()));
        self.registered.set(false);
        result.unwrap_or_else(|_| {
            self.orphaned.set(true);
            Ok(())
        })
    }
}

impl FixedFile {
    /// The file; an error number if the handle is stale.
    pub(super) fn lookup(&self) -> Result<Rc<Descriptor>, i32> {
        let table = self.table.upgrade().ok_or(os::EBADF)?;
        table.with(|_| ()).map_err(|_| os::EBADF)?;
        let slots = table.slots.borrow();
        match &slots[self.slot as usize] {
            Slot { generation, file: Some(file) } if *generation == self.generation => {
                Ok(file.clone())
            }
            _ => Err(os::EBADF),
        }
    }

    /// Returns the number of the slot.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

impl fmt::Debug for FixedFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedFiles").field("capacity", &self.capacity()).finish()
    }
}

impl fmt::Debug for FixedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedFile").field("slot", &self.slot).finish_non_exhaustive()
    }
}
