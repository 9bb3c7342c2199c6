//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::serving::Serving;

/// Serves a directory over HTTP/1.1.
///
/// Ends with status 0 on SIGINT and SIGTERM: requests that are being answered are finished first. Prints `listening on ADDRESS` once connections are
/// accepted.
#[derive(Debug, Parser)]
#[command(name = "file_server", version)]
pub(crate) struct Options {
    /// The directory to serve; nothing outside of it is ever shown.
    #[arg(default_value = ".")]
    pub(crate) root: PathBuf,

    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) addr: String,

    /// How long a connection may be silent between requests, and before the first one.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) idle_timeout: Duration,

    /// How long a request's head may take from its first byte to its last; then 408.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) header_timeout: Duration,

    /// How long a client may take none of a response.
    ///
    /// A slow client is no problem; what counts is that there is room again for more of the
    /// response in the connection's buffer.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) write_timeout: Duration,

    /// Connections at a time; more are answered with 503 and closed.
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(crate) max_connections: usize,

    /// Bytes of a request's head; more are answered with 431.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = bytes)]
    pub(crate) max_header: usize,

    /// Bytes of a request's target; more are answered with 414.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 10, value_parser = bytes)]
    pub(crate) max_uri: usize,

    /// Follow no symbolic links; otherwise those that stay in the directory are followed.
    #[arg(long)]
    pub(crate) no_symlinks: bool,

    #[command(flatten)]
    pub(crate) serving: Serving,

    /// Write a line per request to stderr: client, target, status, bytes of the body.
    #[arg(long)]
    pub(crate) log: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("not a number of seconds: {error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) => Err("must be more than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// A limit that leaves room for a small request, and does not let one fill the memory.
fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 64..=1_048_576) => Ok(bytes),
        Ok(_) => Err("must be between 64 and 1048576".into()),
        Err(error) => Err(format!("not a number of bytes: {error}")),
    }
}
