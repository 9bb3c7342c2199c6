//! Which types are `Send`: operations in flight, and types with counts that are not atomic, are
//! not.

use crate::harness::LocalStream;
use corio::fs::File;
use corio::net::{TcpListener, TcpStream};
use corio::op::{AsyncNop, AsyncRecv, FixedFile, FixedFiles, Nop, WithTimeout};
use corio::task::{Race, RaceAll};
use corio::time::AsyncSleep;
use corio::{Handle, IoContext, JoinHandle};

use std::future::Ready;

/// Evaluates to whether a type has an auto trait, by which of two constants the compiler prefers.
macro_rules! is {
    ($ty:ty: $bound:ident) => {{
        #[allow(dead_code)]
        trait Otherwise {
            const IS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Question<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $bound> Question<T> {
            const IS: bool = true;
        }
        <Question<$ty>>::IS
    }};
}

const _: () = {
    assert!(is!(Handle: Send) && is!(Handle: Sync));
    assert!(is!(TcpStream: Send) && is!(TcpListener: Send) && is!(LocalStream: Send));
    assert!(is!(File: Send));
    assert!(is!(corio::JoinError: Send));
    assert!(is!(corio::Builder: Send) && is!(corio::Builder: Sync));

    // Handles count their operations without atomics.
    assert!(!is!(TcpStream: Sync) && !is!(File: Sync));
    assert!(!is!(IoContext: Send) && !is!(IoContext: Sync));
    assert!(!is!(AsyncNop: Send) && !is!(AsyncNop: Sync) && !is!(AsyncNop: Unpin));
    assert!(!is!(AsyncRecv<'static, Vec<u8>>: Send) && !is!(AsyncRecv<'static, Vec<u8>>: Unpin));
    assert!(!is!(WithTimeout<Nop>: Send) && !is!(WithTimeout<Nop>: Unpin));
    assert!(!is!(JoinHandle<()>: Send) && !is!(JoinHandle<()>: Sync));
    assert!(!is!(AsyncSleep: Send) && !is!(AsyncSleep: Unpin));
    assert!(!is!(Race<Ready<()>, Ready<()>>: Send) && !is!(Race<Ready<()>, Ready<()>>: Unpin));
    assert!(!is!(RaceAll<Ready<()>>: Send));
    assert!(!is!(FixedFiles: Send) && !is!(FixedFile: Send));
};
