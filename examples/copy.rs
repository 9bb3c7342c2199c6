//! Copies a file: several blocks in flight at once, and never half a file at the destination.
//!
//! All blocks go to a file with a temporary name next to the destination, which is renamed when all
//! is written. An error or Ctrl-C before that removes it.

#[path = "common/signals.rs"]
mod signals;

use std::cell::Cell;
use std::error::Error;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use corio::buf::IoBuf;
use corio::fs::{self, File};
use corio::{IoContext, RaceOutput};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::SIGXFSZ;
use signals::Signals;
use tempfile::TempPath;

/// Copies a file, with its permissions
///
/// DST appears when all is written, or not at all.
#[derive(Parser)]
struct Args {
    /// File to copy
    src: PathBuf,
    /// Path of the copy
    dst: PathBuf,
    /// Replace DST if it exists
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
        // of every block. Dropping its result removes the temporary file.
        corio::race(write_copy(args), signals.wait()).await
    });
    match raced {
        RaceOutput::First(copy, _) => {
            publish(copy?, args)?;
            Ok(Outcome::Copied)
        }
        RaceOutput::Second(_, signalled) => {
            signalled?;
            Ok(Outcome::Interrupted)
        }
    }
}

/// Writes the whole copy, under a temporary name.
async fn write_copy(args: &Args) -> Result<TempPath, Box<dyn Error>> {
    let Args { src, dst, .. } = args;
    // Checked before it is opened, as opening a named pipe would wait for its other end.
    let found = fs::metadata(src).await.map_err(about(src))?;
    if !found.is_file() {
        let what = if found.is_dir() { "a directory" } else { "not a regular file" };
        return Err(format!("{} is {what}", src.display()).into());
    }
    let source = File::open(src).await.map_err(about(src))?;
    let metadata = source.metadata().await.map_err(about(src))?;
    check_destination(args, &metadata).await?;

    // corio has no operations for these; they are quick.
    let (target, temporary) = tempfile::Builder::new()
        .prefix(".copy-")
        .tempfile_in(directory_of(dst))
        .map_err(about(dst))?
        .into_parts();
    let target = File::from(target);
    reserve(&target, metadata.len()).await.map_err(about(dst))?;

    let copy = Copy {
        source: &source,
        target: &target,
        next: Cell::new(0),
        len: metadata.len(),
        progress: progress_bar(metadata.len())?,
        args,
    };
    copy.run().await?;

    // Only read, write and execute: a copy does not inherit set-user-ID and the like.
    let permissions = Permissions::from_mode(metadata.mode() & 0o777);
    std::fs::set_permissions(&temporary, permissions).map_err(about(dst))?;
    target.sync_data().await.map_err(about(dst))?;
    target.close().await.map_err(about(dst))?;
    Ok(temporary)
}

/// Gives the copy its final name, in one step.
fn publish(copy: TempPath, Args { dst, force, .. }: &Args) -> io::Result<()> {
    // DST may exist by now, so that it is not replaced is ensured by the rename itself.
    let renamed = if *force { copy.persist(dst) } else { copy.persist_noclobber(dst) };
    renamed.map_err(|failed| about(dst)(failed.error))
}

/// Checks, before any block is copied, that DST may be written.
async fn check_destination(args: &Args, source: &fs::Metadata) -> Result<(), String> {
    let Args { src, dst, force, .. } = args;
    if let Ok(found) = fs::metadata(dst).await {
        if (found.dev(), found.ino()) == (source.dev(), source.ino()) {
            return Err(format!("{} and {} are the same file", src.display(), dst.display()));
        }
        if found.is_dir() {
            return Err(format!("{} is a directory", dst.display()));
        }
    }
    // A dangling symbolic link counts as existing.
    if !force && fs::symlink_metadata(dst).await.is_ok() {
        return Err(format!("{} exists; --force replaces it", dst.display()));
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reserves space on the disk, so that a lack of it is an error now and not half-way.
async fn reserve(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match file.allocate(0, len).await {
        // Not every file system can; then blocks are allocated as they are written.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Creates the progress bar, which is drawn on stderr if that is a terminal.
fn progress_bar(len: u64) -> Result<ProgressBar, Box<dyn Error>> {
    let template = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    Ok(ProgressBar::new(len).with_style(ProgressStyle::with_template(template)?))
}

/// A copy in progress.
struct Copy<'a> {
    source: &'a File,
    target: &'a File,
    /// Offset of the next block that no worker has taken yet.
    next: Cell<u64>,
    len: u64,
    progress: ProgressBar,
    args: &'a Args,
}

impl Copy<'_> {
    async fn run(&self) -> io::Result<()> {
        // `join_all` waits for every worker, also if one fails. (`try_join_all` of the `futures`
        // crate would drop the others' operations in flight: see drop_pending.rs.)
        let workers = (0..self.args.depth).map(|_| self.work());
        corio::join_all(workers).await.into_iter().collect::<io::Result<()>>()?;

        // The length is that of the start. If the file has grown, the copy is incomplete.
        let (more, _) = self.source.read_at([0; 1], self.len).await;
        if more.map_err(about(&self.args.src))? > 0 {
            return Err(about(&self.args.src)(io::Error::other(
                "the file grew while it was copied",
            )));
        }
        self.progress.finish();
        Ok(())
    }

    /// Copies blocks until none is left.
    async fn work(&self) -> io::Result<()> {
        let mut buf = Vec::with_capacity(self.args.block_size as usize);
        while let Some((offset, len)) = self.take_block() {
            buf = self.copy_block(buf, offset, len).await.inspect_err(|_| {
                // Stops the other workers too: leaves no block for them to take.
                self.next.set(self.len);
            })?;
            self.progress.inc(len as u64);
        }
        Ok(())
    }

    fn take_block(&self) -> Option<(u64, usize)> {
        let offset = self.next.get();
        let len = (self.len - offset).min(self.args.block_size.into());
        self.next.set(offset + len);
        (len > 0).then_some((offset, len as usize))
    }

    /// Reads one block and writes it at the same offset; returns the buffer for the next one.
    async fn copy_block(&self, buf: Vec<u8>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let Args { src, dst, .. } = self.args;
        let (result, block) = self.source.read_exact_at(buf.slice(..len), offset).await;
        result.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => about(src)(io::Error::new(
                error.kind(),
                "the file became shorter while it was copied",
            )),
            _ => about(src)(error),
        })?;
        let (result, block) = self.target.write_all_at(block, offset).await;
        result.map_err(about(dst))?;
        Ok(block.into_inner())
    }
}

/// Returns a function that adds `path` to an error's message.
fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
