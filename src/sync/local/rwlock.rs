//! A value that many look at, or one changes.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::semaphore::{Permit, Semaphore};

/// A value that many tasks of this thread look at, or one changes, across their awaits.
///
/// Fair: a writer who waits lets no further reader pass, so neither side starves.
///
/// # Examples
/// ```
/// use corio::sync::local::RwLock;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// let lock = RwLock::new(1);
/// {
///     let (one, other) = (lock.read().await, lock.read().await);
///     assert_eq!(*one + *other, 2);
///     assert!(lock.try_write().is_none());
/// }
/// *lock.write().await = 5;
/// assert_eq!(*lock.read().await, 5);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
pub struct RwLock<T: ?Sized> {
    /// A reader takes one, a writer all.
    turns: Semaphore,
    value: RefCell<T>,
}

/// As many as `RefCell` counts, and more than there can be tasks.
const ALL: usize = isize::MAX as usize;

impl<T> RwLock<T> {
    /// Not locked.
    pub fn new(value: T) -> Self {
        RwLock { turns: Semaphore::new(ALL), value: RefCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until it may look. Cancel-safe.
    pub async fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.turns.acquire(1).await {
            Ok(turn) => RwLockReadGuard { value: self.value.borrow(), _turn: turn },
            Err(_) => unreachable!("nobody closes it"),
        }
    }

    /// Waits until it may change the value. Cancel-safe.
    pub async fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.turns.acquire(ALL).await {
            Ok(turn) => RwLockWriteGuard { value: self.value.borrow_mut(), _turn: turn },
            Err(_) => unreachable!("nobody closes it"),
        }
    }

    /// Looks, if nobody changes the value or waits for that.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let turn = self.turns.try_acquire(1)?;
        Some(RwLockReadGuard { value: self.value.borrow(), _turn: turn })
    }

    /// Changes the value, if nobody looks at it, changes it, or waits.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let turn = self.turns.try_acquire(ALL)?;
        Some(RwLockWriteGuard { value: self.value.borrow_mut(), _turn: turn })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The value of an [`RwLock`], to be looked at, until dropped.
#[must_use = "dropping the guard gives the lock back"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Given up first: the next owner borrows as soon as it has the turn.
    value: Ref<'a, T>,
    _turn: Permit<'a>,
}

/// The value of an [`RwLock`], to be changed, until dropped.
#[must_use = "dropping the guard gives the lock back"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // As above.
    value: RefMut<'a, T>,
    _turn: Permit<'a>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("value", &&self.value).finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
