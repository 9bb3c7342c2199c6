//! Values that stay on their thread although their type may leave it.

// # Why this file has `unsafe`
// It makes a value `Send` and `Sync` that is used on one thread only.

use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, Thread};

use crate::context::Handle;
use crate::runtime::Runtime;
use crate::task::drop_quietly;

/// A value that stays on the thread of its context, for libraries that demand `Send` of what they
/// never move: most futures of frameworks.
///
/// Its use on another thread panics, and names both threads. Dropped on another thread it is sent
/// home, and dropped there at the next turn; if its context is gone, it is leaked.
///
/// # Examples
/// ```
/// use std::rc::Rc;
/// use corio::compat::Local;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// fn demands_send(_: &(impl Send + Sync)) {}
/// let local = Local::new(Rc::new(7));
/// demands_send(&local);
/// assert_eq!(**local, 7);
/// # });
/// # Ok::<(), corio::SetupError>(())
/// ```
#[doc(alias = "SendWrapper")]
pub struct Local<T: 'static> {
    value: ManuallyDrop<T>,
    home: Handle,
    thread: Thread,
}

// SAFETY: the value is used on its own thread only: each access compares the thread's id, which no
// other thread of the process has; `drop` sends it there. A handle and a `Thread` are `Send`.
unsafe impl<T> Send for Local<T> {}
// SAFETY: the same.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// Keeps a value on the thread of the running context.
    ///
    /// # Panics
    /// If no context is running on this thread.
    ///
    /// # Examples
    /// See [`Local`].
    #[track_caller]
    pub fn new(value: T) -> Self {
        let home = crate::handle();
        Local { value: ManuallyDrop::new(value), home, thread: thread::current() }
    }

    /// Returns `true` if this is the value's thread.
    ///
    /// # Examples
    /// ```
    /// # use corio::compat::Local;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let local = Local::new(std::rc::Rc::new(7));
    /// assert!(local.is_at_home());
    /// std::thread::spawn(move || assert!(!local.is_at_home())).join().unwrap();
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    pub fn is_at_home(&self) -> bool {
        thread::current().id() == self.thread.id()
    }

    /// Takes the value out.
    ///
    /// # Panics
    /// On another thread.
    ///
    /// # Examples
    /// ```
    /// # use corio::compat::Local;
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// assert_eq!(Local::new(7).into_inner(), 7);
    /// # });
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[track_caller]
    pub fn into_inner(self) -> T {
        self.check();
        let mut this = ManuallyDrop::new(self);
        let this = &mut *this;
        // SAFETY: each field is moved out once, as `this` is not dropped.
        unsafe {
            std::ptr::drop_in_place(&mut this.home);
            std::ptr::drop_in_place(&mut this.thread);
            ManuallyDrop::take(&mut this.value)
        }
    }

    #[track_caller]
    fn check(&self) {
        if !self.is_at_home() {
            refuse(&self.thread, Location::caller());
        }
    }
}

/// Panics for a use on another thread.
#[cold]
fn refuse(home: &Thread, location: &Location<'_>) -> ! {
    let name = |thread: &Thread| match thread.name() {
        Some(name) => format!("`{name}`"),
        None => format!("{:?}", thread.id()),
    };
    let (home, here) = (name(home), name(&thread::current()));
    panic!("a `Local` of the thread {home} was used on the thread {here}, at {location}");
}

impl<T> std::ops::Deref for Local<T> {
    type Target = T;
    #[track_caller]
    fn deref(&self) -> &T {
        self.check();
        &self.value
    }
}

impl<T> std::ops::DerefMut for Local<T> {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        self.check();
        &mut self.value
    }
}

/// Polls the future inside, on its own thread. A future that is not `Unpin` is made so by
/// [`droppable`](crate::droppable) or `Box::pin`: it may have to be moved home.
impl<F: Future + Unpin> Future for Local<F> {
    type Output = F::Output;
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

// Nothing is pinned inside, by the bound above.
impl<T> Unpin for Local<T> {}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.is_at_home() {
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        } else {
            self.send_home();
        }
    }
}

impl<T> Local<T> {
    /// Has the value dropped on its own thread.
    #[cold]
    fn send_home(&mut self) {
        struct Homeward<T>(T);
        // SAFETY: it is used by the job alone, which runs or is dropped on the context's thread, or
        // else is leaked below.
        unsafe impl<T> Send for Homeward<T> {}
        // SAFETY: it is not used again.
        let value = Homeward(unsafe { ManuallyDrop::take(&mut self.value) });
        let job = move |_: &Runtime| {
            let Homeward(value) = { value };
            drop_quietly(value);
        };
        // If its context is gone, nothing may touch it any more.
        std::mem::forget(self.home.remote.post_job(Box::new(job)));
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("thread", &self.thread.name()).finish_non_exhaustive()
    }
}
