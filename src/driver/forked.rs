//! What is left of a context's driver in a child process made by `fork(2)`: nothing that the parent
//! still uses.

use std::io;
use std::sync::Arc;

use super::{Driver, Notify, Request, Settings, Setup, SetupError, Sink, Token, Wait};
use crate::os::{self, OwnedFd, RawFd};

/// A driver that makes no system calls for operations: each ends at once with `ECANCELED`.
///
/// After a `fork` the driver's kernel objects are those of the parent: a child that used the
/// parent's epoll instance would change what the parent waits for, its ring is not mapped in the
/// child, and the threads of its pool do not exist there.
pub(crate) struct Forked;

struct NoNotify;

impl Notify for NoNotify {
    fn notify(&self) {}
}

// SAFETY: 3. `submit` always returns the result, and keeps nothing. 4. Nothing is accessed. 5. The
// result says that nothing was done. 6. Nothing is ever in flight. 7. Nothing is called but the
// system.
unsafe impl Driver for Forked {
    fn new(_: &Settings) -> Result<Self, SetupError> {
        Ok(Forked)
    }

    #[cold]
    unsafe fn submit(&mut self, _: Token, _: Request) -> Option<i32> {
        Some(-os::ECANCELED)
    }

    unsafe fn deliver_later(&mut self, _: Token, _: i32) -> bool {
        false
    }

    #[cold]
    unsafe fn cancel(&mut self, _: Token) {}

    #[cold]
    unsafe fn leave_close(&mut self, _: Token) {}

    #[cold]
    fn close(&mut self, fd: OwnedFd, _socket: bool) {
        drop(fd);
    }

    fn forget(&mut self, _: RawFd) {}

    /// Waits for time only.
    #[cold]
    fn turn(&mut self, wait: Wait, _: &mut impl Sink) -> io::Result<()> {
        match wait {
            Wait::No => Ok(()),
            Wait::For(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Wait::Forever => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this IoContext belongs to the parent process, of which this one is a fork, so \
                 that nothing it waits for can happen: call exec or _exit in the child, or drop \
                 the context and create another one",
            )),
        }
    }

    fn has_ended(&mut self) -> bool {
        false
    }

    fn closing(&self) -> usize {
        0
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Arc::new(NoNotify)
    }

    fn register_files(&mut self, _: u32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(os::ECANCELED))
    }

    fn update_file(&mut self, _: u32, _: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(os::ECANCELED))
    }

    fn unregister_files(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn syscalls(&self) -> u64 {
        0
    }

    fn name(&self) -> &'static str {
        "forked"
    }

    fn setup(&self) -> Setup {
        Setup::default()
    }
}
