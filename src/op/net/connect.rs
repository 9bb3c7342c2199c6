//! Connecting a socket.

// # Why this file has `unsafe`
// It signs the contract of `Operation`.

use std::io;
use std::ops::ControlFlow;

use crate::address::SocketAddress;
use crate::driver::{OpCode, Request};
use crate::op::future::{Op, Operation, io_result};
use crate::op::source::Source;

/// Connects a socket. [`connect(2)`](https://man7.org/linux/man-pages/man2/connect.2.html).
///
/// # Examples
/// See [`TcpStream::connect`](crate::net::TcpStream::connect).
#[doc(alias = "IORING_OP_CONNECT")]
pub type AsyncConnect<'a> = Op<Connect<'a>>;

/// The operation of [`AsyncConnect`].
#[derive(Debug)]
pub struct Connect<'a> {
    source: Source<'a>,
    address: SocketAddress,
}

// SAFETY: 1. The address lies in the value and is only read. 2. `source` is held. 3. A held source
// names its file without its borrow. 4. The result brings nothing.
unsafe impl Operation for Connect<'_> {
    type Output = io::Result<()>;
    const CODE: OpCode = OpCode::Connect;

    fn prepare(&mut self) -> ControlFlow<i32> {
        self.source.hold()
    }
    fn request(&mut self) -> Request {
        let address = self.address.as_sock_addr();
        Request::Connect {
            fd: self.source.target(),
            addr: address.as_ptr().cast(),
            addr_len: address.len(),
        }
    }
    fn finish(self, result: i32) -> Self::Output {
        io_result(result).map(drop)
    }
}

impl<'a> Op<Connect<'a>> {
    /// Connects `source` to `address`.
    #[track_caller]
    pub fn new(source: impl Into<Source<'a>>, address: impl Into<SocketAddress>) -> Self {
        Op::of(Connect { source: source.into(), address: address.into() })
    }
}
