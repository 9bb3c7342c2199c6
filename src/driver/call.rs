//! Plain system calls: requests that a table describes, so that drivers need no code for each.
//!
//! Most operations are one system call with a few arguments. Each is an entry in a table
//! (`calls/`): the ring's opcode if there is one, what a driver does without it, and the call
//! itself on each host. Drivers have one arm for all of them. Operations keep a variant of
//! [`Request`] of their own where a driver takes special care: where it tries the call inline
//! first, waits for readiness, receives into its own memory, or may give a job up.
//!
//! [`Request`]: super::Request

// # Why this file has `unsafe`
// It passes pointers on to the system calls of the tables.

use std::ffi::c_void;
use std::ptr;

#[cfg(corio_uring)]
use io_uring::squeue;

use super::Target;
use crate::os::{self, RawFd};

/// A plain system call.
#[derive(Debug)]
pub struct Call {
    /// The ring's way; `None`: the ring has no such operation.
    #[cfg(corio_uring)]
    pub(super) ring: Option<Ring>,
    pub(super) fallback: Fallback,
    /// The call on this host.
    pub(super) host: Host,
}

/// The operation of io_uring that does the same as a system call.
#[cfg(corio_uring)]
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) opcode: u8,
    /// Builds the submission entry. Without files and directories (-1), with relative paths and
    /// zeros, it does nothing: so the opcode is probed (`uring/refused.rs`).
    pub(super) entry: fn(&Args) -> squeue::Entry,
}

/// What a driver does that has no operation for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Makes the call on the loop's thread: it never waits.
    Inline,
    /// Makes the call on a thread of the pool.
    Pool,
}

/// What a host has of a call.
#[derive(Debug)]
pub(super) enum Host {
    /// The call: its result, or a negated error number.
    ///
    /// # Safety
    /// The pointers of the arguments are valid for this call.
    Does(unsafe fn(&Args) -> i32),
    /// Nothing; why.
    #[allow(dead_code)] // No call so far is missing on Unix.
    Lacks(&'static str),
}

/// The arguments of a plain system call, inside the operation that makes it.
#[derive(Debug)]
pub struct Args {
    /// Open files, held by the operation.
    pub(crate) files: [Target; 2],
    /// Directories that paths start from: `AT_FDCWD`, or an fd that the operation holds.
    pub(crate) dirs: [RawFd; 2],
    /// Paths, buffers and places for results; all owned by the operation.
    pub(crate) ptrs: [*mut c_void; 3],
    /// Numbers.
    pub(crate) words: [u64; 4],
}

impl Args {
    /// No arguments.
    pub(crate) const NONE: Args = Args {
        files: [Target::NONE; 2],
        dirs: [os::AT_FDCWD; 2],
        ptrs: [ptr::null_mut(); 3],
        words: [0; 4],
    };

    /// The path behind a pointer argument.
    pub(super) fn path(&self, index: usize) -> *const os::c_char {
        self.ptrs[index].cast_const().cast()
    }

    /// A number that was an `int`.
    pub(super) fn int(&self, index: usize) -> i32 {
        self.words[index] as i32
    }
}

impl Call {
    /// Makes the call, however long it takes: its result, or a negated error number; `ENOSYS` on a
    /// host that lacks it.
    ///
    /// # Safety
    /// The pointers of `args` are valid for this call, and nothing else uses what they lead to.
    pub(super) unsafe fn perform(&self, args: &Args) -> i32 {
        match self.host {
            // SAFETY: the pointers are valid, as this function demands.
            Host::Does(call) => unsafe { call(args) },
            Host::Lacks(_) => -os::ENOSYS,
        }
    }
}

/// Makes the entries of a call table. A missing column, such as that of a host, is a
/// compile error.
macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $name:ident {
            ring: $ring:tt,
            fallback: $fallback:ident,
            unix: $unix:expr,
            windows: $windows:expr $(,)?
        }
    )+) => {
        /// The entries of this table, by name: a test compares the opcodes of the ring.
        #[cfg(all(test, corio_uring))]
        pub(in crate::driver) static ALL: &[(&str, &$crate::driver::call::Call)] =
            &[$((stringify!($name), &$name)),+];

        $(
        $(#[$doc])*
        pub(crate) static $name: $crate::driver::call::Call = $crate::driver::call::Call {
            #[cfg(corio_uring)]
            ring: $crate::driver::call::ring!($ring),
            fallback: $crate::driver::call::Fallback::$fallback,
            #[cfg(unix)]
            host: $unix,
            #[cfg(windows)]
            host: $windows,
        };
    )+};
}

/// The ring's column of a call table: `none`, or `(Opcode, |args| entry)`.
#[cfg(corio_uring)]
macro_rules! ring {
    (none) => {
        None
    };
    (($opcode:ident, $entry:expr)) => {
        Some($crate::driver::call::Ring { opcode: io_uring::opcode::$opcode::CODE, entry: $entry })
    };
}

pub(super) use calls;
#[cfg(corio_uring)]
pub(super) use ring;
