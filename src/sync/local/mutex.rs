//! A value that one task at a time works on.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::semaphore::{Permit, Semaphore};

/// A value that one task of this thread at a time works on, across its awaits. (For work without an
/// await in it a `RefCell` does.)
///
/// A task that panics while it has the lock gives it back; the value is as it left it.
///
/// # Examples
/// ```
/// use corio::sync::local::Mutex;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let file = Mutex::new(corio::fs::File::open("Cargo.toml").await?);
/// {
///     let file = file.lock().await;
///     file.read_at(vec![0; 16], 0).await.0?;
///     file.read_at(vec![0; 16], 16).await.0?; // nobody came between
/// }
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T: ?Sized> {
    turn: Semaphore,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// Not locked.
    pub fn new(value: T) -> Self {
        Mutex { turn: Semaphore::new(1), value: RefCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the turn of this task. Cancel-safe.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        match self.turn.acquire(1).await {
            Ok(turn) => MutexGuard { value: self.value.borrow_mut(), _turn: turn },
            Err(_) => unreachable!("nobody closes it"),
        }
    }

    /// Locks if nobody has the lock or waits for it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let turn = self.turn.try_acquire(1)?;
        Some(MutexGuard { value: self.value.borrow_mut(), _turn: turn })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The value of a [`Mutex`], until dropped.
#[must_use = "dropping the guard gives the lock back"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Given up first: the next owner borrows as soon as it has the turn.
    value: RefMut<'a, T>,
    _turn: Permit<'a>,
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("value", &&self.value).finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
