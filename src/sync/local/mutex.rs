//! A mutex for tasks of one thread.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::semaphore::{Permit, Semaphore};

/// A mutex for tasks of one thread, which may hold it across an `.await`. (Without an `.await` in
/// between, a `RefCell` is enough.)
///
/// There is no poisoning: a task that panics releases the lock, and leaves the value as it is.
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
///     file.read_at(vec![0; 16], 16).await.0?; // no other task reads in between
/// }
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T: ?Sized> {
    permit: Semaphore,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex around `value`.
    pub fn new(value: T) -> Self {
        Mutex { permit: Semaphore::new(1), value: RefCell::new(value) }
    }

    /// Consumes the mutex, and returns the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex; waits until it is free. Cancel-safe.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        match self.permit.acquire(1).await {
            Ok(permit) => MutexGuard { value: self.value.borrow_mut(), _permit: permit },
            Err(_) => unreachable!("a mutex never closes its semaphore"),
        }
    }

    /// Locks the mutex if it is free and no task waits for it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let permit = self.permit.try_acquire(1)?;
        Some(MutexGuard { value: self.value.borrow_mut(), _permit: permit })
    }

    /// Returns the value; `&mut self` proves that it is not locked.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// A lock on a [`Mutex`], which gives access to the value; released when dropped.
#[must_use = "dropping the guard releases the lock"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped first: the next owner borrows as soon as it has the permit.
    value: RefMut<'a, T>,
    _permit: Permit<'a>,
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
