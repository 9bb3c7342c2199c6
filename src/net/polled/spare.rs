//! Buffers of send queues that have nothing to send: a connection that is idle holds none.

use std::cell::RefCell;

/// How many buffers one thread keeps.
const MOST: usize = 64;

/// The largest capacity of a buffer that is kept, in bytes.
const LARGEST: usize = 64 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer, one that was used before if there is one.
pub(super) fn take() -> Vec<u8> {
    // While the thread ends there is no list any more.
    SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Keeps a buffer for another connection.
pub(super) fn give(mut buf: Vec<u8>) {
    if buf.capacity() == 0 || buf.capacity() > LARGEST {
        return;
    }
    buf.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.push(buf);
        }
    });
}
