//! Operations that are one plain system call, and yield nothing but its success.

// # Why this file has `unsafe`
// It signs the contract of `Operation`, for all of them.

use std::io;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use super::future::{Op, Operation, io_result};
use super::path::PathAt;
use super::source::Source;
use crate::driver::{Args, Call, OpCode, Request};

/// The operation of a future that makes one plain system call `C` on its operands: an open file, or
/// one or two paths.
///
/// # Examples
/// ```
/// use corio::op::{AsyncFsync, Fsync, Op, Plain, Source};
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = tempfile::tempfile()?;
/// let operation: Op<Plain<Fsync, Source>> = AsyncFsync::new(&file);
/// operation.await?;
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Plain<C, O> {
    operands: O,
    args: Args,
    call: PhantomData<C>,
}

/// Names the system call of a [`Plain`] operation. Sealed: it names types that the crate does not
/// export.
pub trait PlainCall {
    #[doc(hidden)]
    const CODE: OpCode;
    #[doc(hidden)]
    const CALL: &'static Call;
    /// See [`Operation::MAY_BE_DROPPED`].
    #[doc(hidden)]
    const MAY_BE_DROPPED: bool = false;
}

/// What a plain system call acts on.
///
/// # Safety
/// After [`hold`](Self::hold), for as long as the value neither moves nor is dropped:
///
/// 1. each pointer that [`set`](Self::set) writes leads to a path with its final NUL, in the value
///    or in a heap block that it owns, which nothing changes;
/// 2. each fd that `set` writes stays open;
/// 3. `set` reads nothing that the value only borrows.
pub unsafe trait Operands {
    /// Keeps the files open; breaks with the error if that is not possible.
    #[doc(hidden)]
    fn hold(&mut self) -> ControlFlow<i32>;

    /// Writes the files, directories and pointers among the arguments.
    #[doc(hidden)]
    fn set(&self, args: &mut Args);
}

// SAFETY: 1. There are no pointers. 2. A held source keeps its file open. 3. It names the file
// without its borrow.
unsafe impl Operands for Source<'_> {
    fn hold(&mut self) -> ControlFlow<i32> {
        Source::hold(self)
    }
    fn set(&self, args: &mut Args) {
        args.files[0] = self.target();
    }
}

// SAFETY: 1. The path belongs to the value, and has no method that changes it. 2. The directory, if
// there is one, is a held source. 3. That names its file without its borrow.
unsafe impl Operands for PathAt<'_> {
    fn hold(&mut self) -> ControlFlow<i32> {
        PathAt::hold(self)
    }
    fn set(&self, args: &mut Args) {
        args.dirs[0] = self.dir();
        args.ptrs[0] = self.as_arg();
    }
}

// SAFETY: 1. to 3. hold for each of the two, as for one path.
unsafe impl Operands for [PathAt<'_>; 2] {
    fn hold(&mut self) -> ControlFlow<i32> {
        self.iter_mut().try_for_each(PathAt::hold)
    }
    fn set(&self, args: &mut Args) {
        for (index, path) in self.iter().enumerate() {
            args.dirs[index] = path.dir();
            args.ptrs[index] = path.as_arg();
        }
    }
}

// SAFETY: 1. The arguments are a field that nothing else borrows; the pointers among them are those
// of the operands (item 1), as a `Plain` starts with none, and the calls of the tables only read
// what paths lead to. 2. and 3. are items 2 and 3 of the operands. 4. The result brings nothing.
unsafe impl<C: PlainCall, O: Operands> Operation for Plain<C, O> {
    type Output = io::Result<()>;
    const CODE: OpCode = C::CODE;
    const MAY_BE_DROPPED: bool = C::MAY_BE_DROPPED;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.operands.hold()
    }
    fn request(&mut self) -> Request {
        self.operands.set(&mut self.args);
        let fd = self.args.files[0].fd;
        Request::Call { call: C::CALL, fd, len: 0, args: NonNull::from(&mut self.args) }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<C: PlainCall, O: Operands> Op<Plain<C, O>> {
    /// Makes the operation; `words` are the numbers among the arguments.
    #[track_caller]
    pub(super) fn plain<const N: usize>(operands: O, words: [u64; N]) -> Self {
        let mut args = Args::NONE;
        args.words[..N].copy_from_slice(&words);
        Op::of(Plain { operands, args, call: PhantomData })
    }
}

/// Declares the system calls of plain operations, each as the type that stands for it in the name
/// of its future.
macro_rules! plain_call {
    ($(#[$doc:meta])* $name:ident = $call:expr $(, $constant:ident = $value:expr)?) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl $crate::op::call::PlainCall for $name {
            const CODE: $crate::driver::OpCode = $crate::driver::OpCode::$name;
            const CALL: &'static $crate::driver::Call = &$call;
            $(const $constant: bool = $value;)?
        }
    };
}
pub(super) use plain_call;
