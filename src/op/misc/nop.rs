//! An operation that does nothing.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};

/// Does nothing, through the driver: for measuring, and to wait for a turn of the loop. May be
/// dropped in flight under every [policy](crate::DropPolicy), as it lends no memory.
///
/// # Examples
/// ```
/// # let mut context = corio::IoContext::new(8)?;
/// context.block_on(async { corio::op::AsyncNop::new().await })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_NOP")]
pub type AsyncNop = Op<Nop>;

/// The operation of [`AsyncNop`].
#[derive(Debug)]
pub struct Nop(());

// SAFETY: the request has neither pointers nor files (1, 2), the value borrows nothing (3), and the
// result brings nothing (4).
unsafe impl Operation for Nop {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Nop;
    const MAY_BE_DROPPED: bool = true;

    #[inline(always)]
    fn prepare(&mut self) -> ControlFlow<i32> {
        ControlFlow::Continue(())
    }
    #[inline(always)]
    fn request(&mut self) -> Request {
        Request::Nop
    }
    #[inline(always)]
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl Op<Nop> {
    /// Creates an operation that does nothing.
    #[inline(always)]
    #[track_caller]
    pub fn new() -> Self {
        Op::of(Nop(()))
    }
}

impl Default for Op<Nop> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}
