//! Operations: one future per system call, each owning its buffer.
//!
//! All of them are the same future, [`Op`], around a description of what is wanted. The handles in
//! [`net`](crate::net) and [`fs`](crate::fs) make them; they can also be made directly, on anything
//! that converts to a [`Source`]: a handle, any standard type with a file descriptor, or a
//! [registered file](FixedFile).
//!
//! An operation does nothing before its first poll. Its output is `(io::Result<T>, Buf)` where
//! there is a buffer, which comes back also on error, on [timeout](Op::with_timeout) and on
//! cancellation. [`OpCode`](crate::OpCode) has a table of all operations, and the way each takes on
//! each driver.
//!
//! Names: `AsyncRead`, `AsyncWrite` and their relatives are futures here, one operation each, not
//! the traits of that name in other crates.

mod ahead;
mod call;
mod descriptor;
mod fixed;
mod future;
mod incomplete;
mod order;
mod path;
mod source;
mod timeout;
mod transfer;

mod fs {
    pub(super) mod close;
    pub(super) mod fallocate;
    pub(super) mod fsync;
    pub(super) mod ftruncate;
    pub(super) mod link;
    pub(super) mod mkdir;
    pub(super) mod open;
    pub(super) mod read;
    pub(super) mod read_exact;
    pub(super) mod readv;
    pub(super) mod rename;
    pub(super) mod statx;
    pub(super) mod symlink;
    pub(super) mod unlink;
    pub(super) mod write;
    pub(super) mod write_all;
    pub(super) mod writev;
}

mod net {
    pub(super) mod accept;
    pub(super) mod address;
    pub(super) mod connect;
    pub(super) mod packet_info;
    pub(super) mod recv;
    pub(super) mod recv_append;
    pub(super) mod recv_exact;
    pub(super) mod recv_from;
    pub(super) mod recv_stream;
    pub(super) mod recvmsg;
    mod rights;
    pub(super) mod send;
    pub(super) mod send_all;
    pub(super) mod send_to;
    pub(super) mod sendfile;
    pub(super) mod sendmsg;
    pub(super) mod shutdown;
    #[cfg(target_os = "linux")]
    pub(super) mod splice;
}

mod misc {
    pub(super) mod nop;
    pub(super) mod poll;
}

pub use call::Plain;
pub(crate) use descriptor::Descriptor;
pub use fixed::{FixedFile, FixedFiles};
#[cfg(feature = "rustls")]
pub(crate) use future::no_room;
pub use future::{Op, Operation};
pub use incomplete::{Incomplete, is_cancelled};
pub use source::Source;
pub use timeout::WithTimeout;

/// The list of all operations. A row is a kind: its name in [`OpCode`](crate::OpCode), the name of
/// its system call, its ways (on a ring / by readiness), and per future the file and what that
/// exports.
macro_rules! operations {
    ($then:ident) => {
        $then! {
            Nop "nop", "`IORING_OP_NOP` / nothing",
                misc::nop { AsyncNop, Nop };
            Poll "poll", "`IORING_OP_POLL_ADD` / the selector",
                misc::poll { AsyncPoll, Poll, Interest, Readiness };

            Open "open", "`IORING_OP_OPENAT` / inline if cached, else the pool",
                fs::open { AsyncOpen, Open };
            Close "close", "`IORING_OP_CLOSE` / inline for what needs no flush, else the pool",
                fs::close { AsyncClose, Close };
            Statx "statx", "inline if open, else `IORING_OP_STATX` / the same, else the pool",
                fs::statx { AsyncStatx, Statx };
            Read "read", "inline if cached, else `IORING_OP_READ` / the same, else the pool",
                fs::read { AsyncRead, Read },
                fs::read_exact { AsyncReadExactAt, ReadExactAt };
            Write "write", "`IORING_OP_WRITE` / the pool",
                fs::write { AsyncWrite, Write },
                fs::write_all { AsyncWriteAllAt, WriteAllAt };
            Readv "readv", "`IORING_OP_READV` / the pool",
                fs::readv { AsyncReadv, Readv };
            Writev "writev", "`IORING_OP_WRITEV` / the pool",
                fs::writev { AsyncWritev, Writev };
            Fsync "fsync", "`IORING_OP_FSYNC` / the pool",
                fs::fsync { AsyncFsync, Fsync };
            Fdatasync "fdatasync", "`IORING_OP_FSYNC` / the pool",
                fs::fsync { AsyncFdatasync, Fdatasync };
            Fallocate "fallocate", "`IORING_OP_FALLOCATE` / the pool",
                fs::fallocate { AsyncFallocate, Fallocate };
            Ftruncate "ftruncate", "`IORING_OP_FTRUNCATE` (6.9), else the pool / the pool",
                fs::ftruncate { AsyncFtruncate, Ftruncate };
            Unlink "unlink", "`IORING_OP_UNLINKAT` (5.11), else the pool / the pool",
                fs::unlink { AsyncUnlink, Unlink };
            Rename "rename", "`IORING_OP_RENAMEAT` (5.11), else the pool / the pool",
                fs::rename { AsyncRename, Rename };
            Link "link", "`IORING_OP_LINKAT` (5.15), else the pool / the pool",
                fs::link { AsyncLink, Link };
            Symlink "symlink", "`IORING_OP_SYMLINKAT` (5.15), else the pool / the pool",
                fs::symlink { AsyncSymlink, Symlink };
            Mkdir "mkdir", "`IORING_OP_MKDIRAT` (5.15), else the pool / the pool",
                fs::mkdir { AsyncMkdir, Mkdir };

            Accept "accept", "`IORING_OP_ACCEPT` / a call when ready",
                net::accept { AsyncAccept, Accept, Accepted };
            Connect "connect", "`IORING_OP_CONNECT` / a call, then readiness",
                net::connect { AsyncConnect, Connect };
            Recv "recv", "`IORING_OP_RECV`, multishot for streams / a call when ready",
                net::recv { AsyncRecv, Recv },
                net::recv_append { AsyncRecvAppend, RecvAppend },
                net::recv_exact { AsyncRecvExact, RecvExact },
                net::recv_stream { AsyncRecvBuf, RecvProvided, RecvStream };
            Send "send", "`IORING_OP_SEND` / a call when ready",
                net::send { AsyncSend, Send },
                net::send_all { AsyncSendAll, SendAll };
            Recvmsg "recvmsg", "`IORING_OP_RECVMSG` / a call when ready",
                net::recvmsg { AsyncRecvmsg, Recvmsg, Received },
                net::recv_from { AsyncRecvFrom, RecvFrom };
            Sendmsg "sendmsg", "`IORING_OP_SENDMSG` / a call when ready",
                net::sendmsg { AsyncSendmsg, Sendmsg },
                net::send_to { AsyncSendTo, SendTo };
            Shutdown "shutdown", "`IORING_OP_SHUTDOWN` / inline",
                net::shutdown { AsyncShutdown, Shutdown };
            Sendfile "sendfile", "a call when ready / the same",
                net::sendfile { AsyncSendfile, Sendfile };
            Splice "splice", "a call when ready / the same",
                #[cfg(target_os = "linux")]
                net::splice { AsyncSplice, Splice };
        }
    };
}
pub(crate) use operations;

/// Exports the futures of the list, and what belongs to them.
macro_rules! exports {
    ($(
        $code:ident $call:literal, $ways:literal,
        $($(#[$attr:meta])* $folder:ident::$file:ident { $($name:ident),+ }),* ;
    )+) => {
        $($($(#[$attr])* pub use $folder::$file::{$($name),+};)*)+
    };
}

operations!(exports);

pub use net::address::PeerAddress;
pub use net::packet_info::PacketInfo;
pub(crate) use net::recv_stream::SharedRecvStream;
