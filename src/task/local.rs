//! Task-locals: values of which each task has its own.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey as ThreadKey;

use pin_project_lite::pin_project;

/// Declares task-locals: values of which each task, or part of one, has its own.
///
/// # Examples
/// ```
/// corio::task_local! {
///     /// The request being served.
///     pub static REQUEST_ID: u64;
/// }
///
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// REQUEST_ID
///     .scope(7, async {
///         corio::yield_now().await;
///         assert_eq!(REQUEST_ID.get(), 7);
///         // A spawned task starts without the value, unless it inherits it.
///         let child = corio::spawn(REQUEST_ID.inherit(async { REQUEST_ID.get() }));
///         assert_eq!(child.await.unwrap(), 7);
///     })
///     .await;
/// assert!(REQUEST_ID.try_with(|id| *id).is_none());
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[macro_export]
macro_rules! task_local {
    ($($(#[$attr:meta])* $vis:vis static $name:ident: $ty:ty);+ $(;)?) => {$(
        $(#[$attr])*
        $vis static $name: $crate::task::LocalKey<$ty> = {
            ::std::thread_local! {
                static SLOT: ::std::cell::RefCell<::std::option::Option<$ty>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }
            $crate::task::LocalKey::__new(&SLOT)
        };
    )+};
}

/// The key of a task-local; declared by [`task_local!`](crate::task_local).
///
/// While a future with a value is being polled, the value is in a thread-local; between polls it is
/// in the future. So the value persists across awaits, and no other task sees it.
///
/// # Examples
/// See [`task_local!`](crate::task_local).
pub struct LocalKey<T: 'static> {
    slot: &'static ThreadKey<RefCell<Option<T>>>,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(slot: &'static ThreadKey<RefCell<Option<T>>>) -> Self {
        LocalKey { slot }
    }

    /// Returns a future that runs `future` with `value`. An inner value hides an outer one.
    ///
    /// # Examples
    /// See [`task_local!`](crate::task_local).
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> TaskLocalFuture<T, F> {
        TaskLocalFuture { future: Some(future), value: Some(value), key: self }
    }

    /// Calls `f` with the current value.
    ///
    /// # Panics
    /// If there is no value.
    ///
    /// # Examples
    /// ```
    /// corio::task_local!(static NAME: String);
    /// # let mut context = corio::IoContext::new(8)?;
    /// let future = NAME.scope("corio".into(), async { NAME.with(|name| name.len()) });
    /// let len = context.block_on(future);
    /// assert_eq!(len, 5);
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Some(result) => result,
            None => panic!(
                "this task-local has no value here: run this code within `LocalKey::scope`, or \
                 spawn it with `LocalKey::inherit`"
            ),
        }
    }

    /// Calls `f` with the current value. Returns `None` if there is no value.
    ///
    /// # Examples
    /// See [`task_local!`](crate::task_local).
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Option<R> {
        self.slot.with_borrow(|value| value.as_ref().map(f))
    }

    /// Returns a clone of the current value.
    ///
    /// # Panics
    /// If there is no value.
    ///
    /// # Examples
    /// See [`task_local!`](crate::task_local).
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Returns a future that runs `future`, which is about to be spawned, with a clone of the
    /// current value.
    ///
    /// # Panics
    /// If there is no value.
    ///
    /// # Examples
    /// See [`task_local!`](crate::task_local).
    #[track_caller]
    pub fn inherit<F: Future>(&'static self, future: F) -> TaskLocalFuture<T, F>
    where
        T: Clone,
    {
        self.scope(self.get(), future)
    }
}

impl<T: 'static> LocalKey<T> {
    /// Exchanges the value of the slot; returns `false` if that is not possible at present.
    fn swap(&'static self, value: &mut Option<T>) -> bool {
        let swap = |slot: &RefCell<Option<T>>| {
            slot.try_borrow_mut().map(|mut slot| std::mem::swap(&mut *slot, value)).is_ok()
        };
        self.slot.try_with(swap).unwrap_or(false)
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKey")
    }
}

pin_project! {
    /// A future with a task-local value; returned by [`LocalKey::scope`] and [`LocalKey::inherit`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct TaskLocalFuture<T: 'static, F> {
        // `None` only while being dropped.
        #[pin]
        future: Option<F>,
        value: Option<T>,
        key: &'static LocalKey<T>,
    }

    impl<T: 'static, F> PinnedDrop for TaskLocalFuture<T, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Destructors see the value, too; unless this is dropped by code that looks at it.
            let _swapped = Swapped::try_new(this.key, this.value);
            this.future.set(None);
        }
    }
}

/// Has the value in the key's slot until dropped.
struct Swapped<'a, T: 'static>(&'static LocalKey<T>, &'a mut Option<T>);

impl<'a, T> Swapped<'a, T> {
    /// Returns `None` while the value is borrowed, or where the thread's values are gone.
    fn try_new(key: &'static LocalKey<T>, value: &'a mut Option<T>) -> Option<Self> {
        key.swap(value).then_some(Swapped(key, value))
    }
}

impl<T> Drop for Swapped<'_, T> {
    fn drop(&mut self) {
        self.0.swap(self.1);
    }
}

impl<T, F: Future> Future for TaskLocalFuture<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _swapped = Swapped::try_new(this.key, this.value)
            .expect("a future with a task-local was polled by code that looks at the value");
        this.future.as_pin_mut().expect("it is `None` only while being dropped").poll(cx)
    }
}
