//! Copying blocks, several at the same time.

use std::cell::Cell;
use std::io;

use corio::buf::IoBuf;
use corio::fs::File;
use indicatif::ProgressBar;

use super::data_ranges::next_data;
use super::{Args, about};

/// A copy in progress.
pub(crate) struct Copy<'a> {
    source: &'a File,
    target: &'a File,
    /// Offset of the next block that no worker has taken yet.
    next: Cell<u64>,
    /// End of the range of data that `next` is in.
    data_end: Cell<u64>,
    len: u64,
    progress: ProgressBar,
    args: &'a Args,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(
        source: &'a File,
        target: &'a File,
        len: u64,
        progress: ProgressBar,
        args: &'a Args,
    ) -> Self {
        Copy { source, target, next: Cell::new(0), data_end: Cell::new(0), len, progress, args }
    }

    /// Gives the target its length, and reserves space on the disk, so that a lack of it is an
    /// error now and not half-way. No space is reserved for a file with holes.
    pub(crate) async fn reserve(&self) -> io::Result<()> {
        let about_target = about(&self.args.dst);
        let without_holes = match next_data(self.source, 0, self.len)? {
            Some(first) => first == (0..self.len),
            None => false,
        };
        if without_holes {
            match self.target.allocate(0, self.len).await {
                // Not every file system can; then blocks are allocated as they are written.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                result => return result.map_err(about_target),
            }
        }
        self.target.set_len(self.len).await.map_err(about_target)
    }

    pub(crate) async fn run(&self) -> io::Result<()> {
        // `join_all` waits for every worker, also if one fails. (`try_join_all` of the `futures`
        // crate would drop the others' operations in flight: see drop_pending.rs.)
        let workers = (0..self.args.depth).map(|_| self.work());
        corio::join_all(workers).await.into_iter().collect::<io::Result<()>>()?;

        // The length is that of the start. Holes were not read, so the file may have lost some.
        if self.source.metadata().await.map_err(about(&self.args.src))?.len() < self.len {
            return Err(self.shorter());
        }
        // If the file has grown, the copy is incomplete. (Files of procfs have a length of zero.)
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
        while let Some((offset, len)) = self.take_block()? {
            buf = self.copy_block(buf, offset, len).await.inspect_err(|_| self.leave_nothing())?;
            self.progress.inc(len as u64);
        }
        Ok(())
    }

    /// Returns the offset and the length of the next block of data.
    fn take_block(&self) -> io::Result<Option<(u64, usize)>> {
        let mut offset = self.next.get();
        if offset == self.data_end.get() {
            let found = next_data(self.source, offset, self.len);
            let found =
                found.inspect_err(|_| self.leave_nothing()).map_err(about(&self.args.src))?;
            let data = found.unwrap_or(self.len..self.len);
            self.progress.inc(data.start - offset);
            offset = data.start;
            self.data_end.set(data.end);
        }
        let len = (self.data_end.get() - offset).min(self.args.block_size.into());
        self.next.set(offset + len);
        Ok((len > 0).then_some((offset, len as usize)))
    }

    /// Stops the other workers: leaves no block for them to take.
    fn leave_nothing(&self) {
        self.next.set(self.len);
        self.data_end.set(self.len);
    }

    fn shorter(&self) -> io::Error {
        let text = "the file became shorter while it was copied";
        about(&self.args.src)(io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }

    /// Reads one block and writes it at the same offset; returns the buffer for the next one.
    async fn copy_block(&self, buf: Vec<u8>, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let Args { src, dst, .. } = self.args;
        let (result, block) = self.source.read_exact_at(buf.slice(..len), offset).await;
        result.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.shorter(),
            _ => about(src)(error),
        })?;
        let (result, block) = self.target.write_all_at(block, offset).await;
        result.map_err(about(dst))?;
        Ok(block.into_inner())
    }
}
