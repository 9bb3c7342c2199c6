//! Other libraries on corio, and corio within other loops.
//!
//! | feature | for | what is here |
//! |---|---|---|
//! | (always) | values that must not leave their thread | [`Local`], [`handler`] |
//! | `hyper` | hyper 1, and what is built on it | `hyper::{serve, Io, Executor, Timer}` |
//! | `axum` | axum 0.8 | `axum::serve` |
//! | `tokio-io` | libraries on tokio's I/O traits | `Io` with these traits |
//! | `futures-io` | libraries on the I/O traits of futures | `Io` with these traits |
//! | `bytes` | `Bytes` and `BytesMut` | they are buffers, see [`buf`](crate::buf) |

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(any(feature = "hyper", feature = "tokio-io", feature = "futures-io"))]
mod io;
mod local;
#[cfg(feature = "tokio-io")]
mod tokio_io;

#[cfg(any(feature = "hyper", feature = "tokio-io", feature = "futures-io"))]
pub use io::Io;
pub use local::Local;

use crate::task::{Droppable, droppable};

/// Makes a future that a framework takes for a handler's: it is `Send`, though it stays on its
/// thread, and may be dropped at any time, whatever it has in flight. [`Local`] and
/// [`droppable`](crate::droppable()) in one.
///
/// # Panics
/// If no context is running on this thread; when it is polled on another thread.
///
/// # Examples
/// ```
/// use corio::compat::handler;
/// use corio::fs::File;
///
/// /// A handler as axum wants it.
/// async fn page() -> Result<Vec<u8>, String> {
///     handler(async {
///         let file = File::open("Cargo.toml").await.map_err(|error| error.to_string())?;
///         let (result, page) = file.read_at(Vec::with_capacity(64), 0).await;
///         result.map_err(|error| error.to_string())?;
///         Ok(page)
///     })
///     .await
/// }
/// fn demands_send<T: Send>(value: T) -> T {
///     value
/// }
/// let mut context = corio::IoContext::new(8)?;
/// assert_eq!(context.block_on(demands_send(page()))?.len(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn handler<F>(future: F) -> Local<Droppable<F>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Local::new(droppable(future))
}
