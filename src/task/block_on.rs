//! The methods of [`IoContext`] that start tasks.

// # Why this file has `unsafe`
// `block_on` runs a future that may borrow from its caller.

use std::panic::Location;

use super::{JoinHandle, spawn_on, spawn_unchecked};
use crate::context::IoContext;
use crate::driver::Wait;

/// Aborts when dropped: unwinding out of the loop would free what the future borrows while its
/// operations are in flight.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("corio: aborting: the loop panicked while the future of `block_on` was running");
        std::process::abort();
    }
}

impl IoContext {
    /// Starts a task, which makes progress while the context runs. See [`spawn`](crate::spawn()).
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let task = context.spawn(async { 5 });
    /// assert_eq!(context.block_on(task).unwrap(), 5);
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "spawn_local")]
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_on(self.runtime(), future, Location::caller())
    }

    /// Runs the context until `future` is ready, and returns its output.
    ///
    /// Tasks that are still running then are [cancelled](JoinHandle::cancel) and waited for, at
    /// most for the [grace period](crate::Builder::grace_period), so that nothing is in flight
    /// afterwards. A [`stop`](crate::Handle::stop) does not end it; it ends the next
    /// [`run`](Self::run).
    ///
    /// # Panics
    /// With the future's own panic; or if it is called while a context is running on this thread.
    ///
    /// # Aborts
    /// If the kernel refuses to run the ring any more, or a foreign waker panics: the future may
    /// borrow from the caller, so `block_on` can't return while the future is in flight.
    ///
    /// # Examples
    /// ```
    /// let mut context = corio::IoContext::new(8)?;
    /// let name = String::from("corio");
    /// let len = context.block_on(async { name.len() });
    /// assert_eq!(len, 5);
    /// # Ok::<(), corio::SetupError>(())
    /// ```
    #[doc(alias = "run_until_done")] // words: allow(run_until_done)
    #[doc(alias = "run_until")]
    #[track_caller]
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let runtime = self.runtime();
        let _entered = runtime.enter();
        let running = self.set_running();
        let abort_on_unwind = AbortOnUnwind;
        // SAFETY: this function does not return before the task is done and its output taken.
        let mut main = unsafe { spawn_unchecked(runtime, future, Location::caller()) };
        let output = loop {
            runtime.run_ready();
            if let Some(output) = main.take() {
                break output;
            }
            if let Err(error) = runtime.turn(Wait::Forever, false) {
                eprintln!(
                    "corio: aborting: the driver failed while the future of `block_on` was \
                     running: {error}"
                );
                std::process::abort();
            }
        };
        drop(main);
        std::mem::forget(abort_on_unwind);
        self.finish_tasks();
        drop(running);
        match output {
            Ok(output) => output,
            Err(error) => error.resume_panic(),
        }
    }
}
