//! A reader–writer lock for tasks of one thread.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::semaphore::{Permit, Semaphore};

/// A reader–writer lock for tasks of one thread, which may hold it across an `.await`: any number
/// of readers, or one writer.
///
/// Fair: no reader passes a writer that waits, so neither side starves.
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
    /// A reader takes one permit, a writer takes all.
    permits: Semaphore,
    value: RefCell<T>,
}

/// All permits: as many readers as a `RefCell` counts, which is more than there can be tasks.
const ALL: usize = isize::MAX as usize;

impl<T> RwLock<T> {
    /// Creates an unlocked lock around `value`.
    pub fn new(value: T) -> Self {
        RwLock { permits: Semaphore::new(ALL), value: RefCell::new(value) }
    }

    /// Consumes the lock, and returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading; waits until no writer has the lock or waits for it. Cancel-safe.
    pub async fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.permits.acquire(1).await {
            Ok(permit) => RwLockReadGuard { value: self.value.borrow(), _permit: permit },
            Err(_) => unreachable!("a lock never closes its semaphore"),
        }
    }

    /// Locks for writing; waits until the lock is free. Cancel-safe.
    pub async fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.permits.acquire(ALL).await {
            Ok(permit) => RwLockWriteGuard { value: self.value.borrow_mut(), _permit: permit },
            Err(_) => unreachable!("a lock never closes its semaphore"),
        }
    }

    /// Locks for reading if no writer has the lock or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let permit = self.permits.try_acquire(1)?;
        Some(RwLockReadGuard { value: self.value.borrow(), _permit: permit })
    }

    /// Locks for writing if the lock is free and no task waits for it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let permit = self.permits.try_acquire(ALL)?;
        Some(RwLockWriteGuard { value: self.value.borrow_mut(), _permit: permit })
    }

    /// Returns the value; `&mut self` proves that it is not locked.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// A shared lock on an [`RwLock`], which gives read access to the value; released when dropped.
#[must_use = "dropping the guard releases the lock"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // Dropped first: the next owner borrows as soon as it has the permits.
    value: Ref<'a, T>,
    _permit: Permit<'a>,
}

/// An exclusive lock on an [`RwLock`], which gives write access to the value; released when
/// dropped.
#[must_use = "dropping the guard releases the lock"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // Dropped first, as in `RwLockReadGuard`.
    value: RefMut<'a, T>,
    _permit: Permit<'a>,
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
