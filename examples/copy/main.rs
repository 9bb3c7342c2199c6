//! Copies a file: several blocks in flight at once, and never half a file at the destination.
//!
//! All blocks go to a file without a name, which gets the destination's when all is written. Holes
//! of a sparse file are holes in its copy.

mod blocks;
mod data_ranges;
#[path = "../common/signals.rs"]
mod signals;
mod unfinished;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use corio::fs::{self, File};
use corio::{IoContext, RaceOutput};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::{Mode, fchmod};
use signal_hook::consts::SIGXFSZ;

use blocks::Copy;
use signals::Signals;
use unfinished::Unfinished;

/// Copies a file, with its permissions
///
/// DST appears when all is written, or not at all. It has holes where SRC has some.
#[derive(Parser)]
struct Args {
    /// File to copy
    src: PathBuf,
    /// Path of the copy
    dst: PathBuf,
    /// Replace DST if it is a file, or a symbolic link to one or to nothing
    #[arg(long)]
    force: bool,
    /// Bytes per block
    #[arg(long, value_name = "BYTES", default_value = "524288",
          value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    block_size: u32,
    /// Blocks in flight at the same time
    #[arg(long, value_name = "BLOCKS", default_value = "8",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    depth: u16,
}

/// The exit status that shells give a program ended by Ctrl-C: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(Outcome::Copied) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => {
            eprintln!("copy: interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("copy: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Outcome {
    Copied,
    Interrupted,
}

fn run(args: &Args) -> Result<Outcome, Box<dyn Error>> {
    let signals = Signals::new()?;
    // Beyond the file size limit (`ulimit -f`) this signal would kill the process, and leave the
    // temporary file. Caught, the write fails with an error.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut context = IoContext::new(256)?;
    let raced = context.block_on(async {
        // If a signal arrives first, `race` cancels the copy and waits until the kernel has let go
        // of every block. Dropping its result removes the unfinished file.
        corio::race(write_copy(args), signals.wait()).await
    });
    match raced {
        RaceOutput::First(copy, _) => {
            let (file, unfinished) = copy?;
            // DST may exist by now; this is what ensures that it is not replaced without --force.
            unfinished.publish(&file, &args.dst, args.force).map_err(about(&args.dst))?;
            Ok(Outcome::Copied)
        }
        RaceOutput::Second(_, signalled) => {
            signalled?;
            Ok(Outcome::Interrupted)
        }
    }
}

/// Writes the whole copy, which has no name yet.
async fn write_copy(args: &Args) -> Result<(File, Unfinished), Box<dyn Error>> {
    let Args { src, dst, .. } = args;
    // Checked before it is opened, as opening a named pipe would wait for its other end.
    check_type(src, &fs::metadata(src).await.map_err(about(src))?)?;
    let source = File::open(src).await.map_err(about(src))?;
    let metadata = source.metadata().await.map_err(about(src))?;
    check_type(src, &metadata)?;
    check_destination(args, &metadata).await?;

    // corio has no operations for this; it is quick.
    let (unfinished, target) = Unfinished::create(dst).map_err(about(dst))?;
    let target = File::from(target);
    let progress = progress_bar(metadata.len())?;
    let copy = Copy::new(&source, &target, metadata.len(), progress, args);
    copy.reserve().await?;
    copy.run().await?;

    // Only read, write and execute: a copy does not inherit set-user-ID and the like.
    let permissions = Mode::from_raw_mode(metadata.mode() & 0o777);
    fchmod(&target, permissions).map_err(|error| about(dst)(error.into()))?;
    target.sync_data().await.map_err(about(dst))?;
    // What is at DST may have changed since the copy began.
    check_destination(args, &metadata).await?;
    Ok((target, unfinished))
}

fn check_type(path: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
    Err(format!("{} is {what}", path.display()))
}

/// Checks that DST may be made, or replaced.
async fn check_destination(args: &Args, source: &fs::Metadata) -> Result<(), String> {
    let Args { src, dst, force, .. } = args;
    match fs::metadata(dst).await {
        Ok(found) if (found.dev(), found.ino()) == (source.dev(), source.ino()) => {
            return Err(format!("{} and {} are the same file", src.display(), dst.display()));
        }
        // A device, a named pipe or a socket is used by its name, which a file would take away.
        Ok(found) => check_type(dst, &found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(about(dst)(error).to_string()),
    }
    // A dangling symbolic link counts as existing.
    if !force && fs::symlink_metadata(dst).await.is_ok() {
        return Err(format!("{} exists; --force replaces it", dst.display()));
    }
    Ok(())
}

/// Creates the progress bar, which is drawn on stderr if that is a terminal.
fn progress_bar(len: u64) -> Result<ProgressBar, Box<dyn Error>> {
    let template = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    Ok(ProgressBar::new(len).with_style(ProgressStyle::with_template(template)?))
}

/// Returns a function that adds `path` to an error's message.
fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
