//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::serving::{ServerOptions, durations};

/// Serves a directory over HTTP/1.1.
///
/// Prints `listening on ADDRESS` once connections are accepted. SIGINT and SIGTERM stop it:
/// requests in progress are finished first, within the time of --grace, and the exit status is 0.
#[derive(Debug, Parser)]
#[command(name = "file_server", version)]
pub(crate) struct Options {
    /// Directory to serve; files outside of it are never served.
    #[arg(default_value = ".")]
    pub(crate) root: PathBuf,

    /// Address to listen on; port 0 picks a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) addr: String,

    /// How long a connection may be idle before its first request and between two, or `never`.
    #[arg(long, value_name = "SECONDS", default_value = "60", allow_negative_numbers = true,
          value_parser = durations::limit)]
    pub(crate) idle_timeout: Duration,

    /// How long a request's head may take from its first byte to its last, or `never`; then 408.
    #[arg(long, value_name = "SECONDS", default_value = "10", allow_negative_numbers = true,
          value_parser = durations::limit)]
    pub(crate) header_timeout: Duration,

    /// How long a client may accept no byte of a response, or `never`; then the connection is
    /// reset.
    ///
    /// It is not a limit on the whole response: a client that is slow but reads is not cut off.
    #[arg(long, value_name = "SECONDS", default_value = "60", allow_negative_numbers = true,
          value_parser = durations::limit)]
    pub(crate) write_timeout: Duration,

    /// Largest number of connections at the same time; further ones get a 503 and are closed.
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub(crate) max_connections: usize,

    /// Largest request head, in bytes; a longer one gets a 431.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = bytes)]
    pub(crate) max_header: usize,

    /// Longest request target, in bytes; a longer one gets a 414.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 10, value_parser = bytes)]
    pub(crate) max_uri: usize,

    /// Follow no symbolic links; by default those that stay in the directory are followed.
    #[arg(long)]
    pub(crate) no_symlinks: bool,

    #[command(flatten)]
    pub(crate) server: ServerOptions,

    /// Log a line per request to stderr: client, target, status, bytes of the body.
    #[arg(long)]
    pub(crate) log: bool,
}

/// Parses a limit that is large enough for a small request, and does not let one fill the memory.
fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 64..=1_048_576) => Ok(bytes),
        Ok(_) => Err("must be between 64 and 1048576".into()),
        Err(error) => Err(format!("not a number of bytes: {error}")),
    }
}
