//! The choice of the driver that a context gets.

// # Why this file has `unsafe`
// It forwards the contract's unsafe calls to the chosen driver.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

#[cfg(unix)]
use super::forked::Forked;
use super::readiness::Readiness;
#[cfg(corio_uring)]
use super::uring::Uring;
use super::{Driver, Notify, RecvQueue, Request, Settings, Setup, SetupError, Sink, Token, Wait};
use crate::os::{OwnedFd, RawFd};

/// Selects the driver that carries operations out.
///
/// # Examples
/// ```
/// use corio::DriverChoice;
/// assert_eq!("readiness".parse(), Ok(DriverChoice::Readiness));
/// assert_eq!(DriverChoice::Uring.to_string(), "uring");
/// assert!("magic".parse::<DriverChoice>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring where the kernel grants it, else the readiness driver;
    /// [`IoContext::fallback_reason`](crate::IoContext::fallback_reason) returns the reason.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// The host's readiness selector (epoll, kqueue or AFD), with blocking calls on a few threads.
    Readiness,
}

impl DriverChoice {
    const NAMES: [(&str, DriverChoice); 3] = [
        ("auto", DriverChoice::Auto),
        ("uring", DriverChoice::Uring),
        ("readiness", DriverChoice::Readiness),
    ];
}

/// The error of parsing a string that names no [`DriverChoice`].
///
/// # Examples
/// ```
/// let error = "magic".parse::<corio::DriverChoice>().unwrap_err();
/// assert!(error.to_string().contains("magic"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown driver {name:?}: use auto, uring or readiness")]
pub struct ParseDriverError {
    name: String,
}

impl FromStr for DriverChoice {
    type Err = ParseDriverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, choice)| choice).ok_or_else(|| ParseDriverError { name: text.into() })
    }
}

impl fmt::Display for DriverChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::NAMES.iter().find(|(_, choice)| choice == self);
        f.pad(found.map_or("auto", |(name, _)| name))
    }
}

/// One of the drivers of this host: the only driver type that the rest of the crate names.
#[allow(clippy::large_enum_variant)] // There is one per context.
pub(crate) enum AnyDriver {
    #[cfg(corio_uring)]
    Uring(Uring),
    Other(Other),
}

/// Any other driver: apart, so that one comparison finds io_uring.
#[allow(clippy::large_enum_variant)] // As above.
pub(crate) enum Other {
    Readiness(Readiness),
    /// In a child process made by `fork`.
    #[cfg(unix)]
    Forked(Forked),
}

/// Returns the program's choice, or else that of the environment variable `CORIO_DRIVER`.
fn choice(settings: &Settings) -> Result<DriverChoice, SetupError> {
    if let Some(choice) = settings.choice {
        return Ok(choice);
    }
    match std::env::var_os("CORIO_DRIVER") {
        None => Ok(DriverChoice::Auto),
        Some(name) => match name.to_str().map(str::parse) {
            Some(Ok(choice)) => Ok(choice),
            _ => Err(SetupError::UnknownDriver(name)),
        },
    }
}

impl AnyDriver {
    /// Replaces the driver in a child process made by `fork`, and returns it.
    #[cfg(unix)]
    pub(crate) fn leave_to_parent(&mut self) -> Self {
        std::mem::replace(self, AnyDriver::Other(Other::Forked(Forked)))
    }

    /// Creates a driver for the calling thread. If io_uring was tried and refused, the second value
    /// is its error.
    pub(crate) fn choose(settings: &Settings) -> Result<(Self, Option<SetupError>), SetupError> {
        let readiness =
            || Readiness::new(settings).map(|driver| AnyDriver::Other(Other::Readiness(driver)));
        match choice(settings)? {
            DriverChoice::Readiness => Ok((readiness()?, None)),
            DriverChoice::Uring => Ok((AnyDriver::uring(settings)?, None)),
            DriverChoice::Auto => match AnyDriver::uring(settings) {
                Ok(driver) => Ok((driver, None)),
                Err(reason) if reason.is_about_io_uring() => Ok((readiness()?, Some(reason))),
                Err(error) => Err(error),
            },
        }
    }

    #[cfg(corio_uring)]
    fn uring(settings: &Settings) -> Result<Self, SetupError> {
        Uring::new(settings).map(AnyDriver::Uring)
    }

    #[cfg(not(corio_uring))]
    fn uring(_: &Settings) -> Result<Self, SetupError> {
        Err(SetupError::Missing(io::ErrorKind::Unsupported.into()))
    }
}

/// Forwards a call to the driver that was chosen.
macro_rules! forward {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            #[cfg(corio_uring)]
            AnyDriver::Uring($driver) => $call,
            AnyDriver::Other(Other::Readiness($driver)) => $call,
            #[cfg(unix)]
            AnyDriver::Other(Other::Forked($driver)) => $call,
        }
    };
}

// SAFETY: clauses 3 to 7 hold because the variant never changes after `choose`, except in a child
// process, where nothing is in flight afterwards (`leave_to_parent`): every token goes to
// the driver inside, and every delivery comes from that driver's `turn`, which keeps them itself.
// Nothing is added before or after a forwarded call.
unsafe impl Driver for AnyDriver {
    fn new(settings: &Settings) -> Result<Self, SetupError> {
        AnyDriver::choose(settings).map(|(driver, _)| driver)
    }

    #[inline(always)]
    unsafe fn submit(&mut self, op: Token, request: Request) -> Option<i32> {
        // SAFETY: the list of `Driver::submit` is the same here and there; the variant is the one
        // that the operation stays with.
        forward!(self, driver => unsafe { driver.submit(op, request) })
    }

    unsafe fn deliver_later(&mut self, op: Token, result: i32) -> bool {
        // SAFETY: the list is the same here and there, and the variant the one that has ended it.
        forward!(self, driver => unsafe { driver.deliver_later(op, result) })
    }

    unsafe fn cancel(&mut self, op: Token) {
        // SAFETY: in flight in this driver means in flight in the one inside, which changes only
        // where nothing is in flight afterwards.
        forward!(self, driver => unsafe { driver.cancel(op) })
    }

    unsafe fn leave_close(&mut self, op: Token) {
        // SAFETY: a close in flight in this driver is in flight in the one inside.
        forward!(self, driver => unsafe { driver.leave_close(op) })
    }

    fn close(&mut self, fd: OwnedFd, socket: bool) {
        forward!(self, driver => driver.close(fd, socket))
    }

    fn forget(&mut self, fd: RawFd) {
        forward!(self, driver => driver.forget(fd))
    }

    fn stop_receive(&mut self, queue: &Rc<RecvQueue>) {
        forward!(self, driver => driver.stop_receive(queue))
    }

    #[inline(always)]
    fn turn(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<()> {
        forward!(self, driver => driver.turn(wait, sink))
    }

    fn has_ended(&mut self) -> bool {
        forward!(self, driver => driver.has_ended())
    }

    fn closing(&self) -> usize {
        forward!(self, driver => driver.closing())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        forward!(self, driver => driver.notifier())
    }

    fn register_files(&mut self, slots: u32) -> io::Result<()> {
        forward!(self, driver => driver.register_files(slots))
    }

    fn update_file(&mut self, slot: u32, fd: i32) -> io::Result<()> {
        forward!(self, driver => driver.update_file(slot, fd))
    }

    fn unregister_files(&mut self) -> io::Result<()> {
        forward!(self, driver => driver.unregister_files())
    }

    fn notify_other(&mut self, other: &Arc<dyn Notify>) {
        forward!(self, driver => driver.notify_other(other))
    }

    fn syscalls(&self) -> u64 {
        forward!(self, driver => driver.syscalls())
    }

    fn name(&self) -> &'static str {
        forward!(self, driver => driver.name())
    }

    fn setup(&self) -> Setup {
        forward!(self, driver => driver.setup())
    }
}
