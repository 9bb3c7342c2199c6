//! The interface of measured programs: their arguments and their results.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::counting;
use crate::system::process_cpu;

/// What a server does with its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Sends received bytes back, through a buffer of this size per connection.
    Echo { buffer: usize },
    /// Answers each HTTP request with the same few bytes.
    Http,
    /// Sends files of a directory.
    Files { root: PathBuf },
}

/// A program that measures itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Reads(Reads),
    /// Copies a file.
    Copy {
        from: PathBuf,
        to: PathBuf,
    },
    /// Spawns `at_once` tasks and joins them, until there were `tasks`.
    Spawn {
        tasks: u64,
        at_once: u64,
    },
    Yield {
        tasks: u64,
        times: u64,
    },
    /// Sleeps, one after the other.
    Sleep {
        nanoseconds: u64,
        times: u64,
    },
    /// Tasks that each sleep once, for up to 100 ms.
    Timers {
        tasks: u64,
    },
    /// Messages from one thread to another.
    Channel {
        messages: u64,
    },
    /// Round trips of one message at a time between two threads.
    Wake {
        round_trips: u64,
    },
}

/// Reads of 4 KiB at random positions of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reads {
    pub(crate) file: PathBuf,
    pub(crate) direct: bool,
    pub(crate) depth: u64,
    pub(crate) reads: u64,
}

pub(crate) const BLOCK: usize = 4096;

impl Reads {
    /// Returns the blocks that one of `depth` readers reads, in random order.
    pub(crate) fn blocks(&self, reader: u64) -> impl Iterator<Item = u64> + use<> {
        let blocks =
            std::fs::metadata(&self.file).expect("reading the metadata of the file of reads").len()
                / BLOCK as u64;
        let mut state = reader.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..self.reads / self.depth).map(move |_| {
            // xorshift64 (Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % blocks
        })
    }

    pub(crate) fn open(&self) -> File {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if self.direct { libc::O_DIRECT } else { 0 };
        File::options()
            .read(true)
            .custom_flags(flags)
            .open(&self.file)
            .expect("opening the file of reads")
    }

    /// Returns the number of reads, rounded down to a multiple of `depth`.
    pub(crate) fn count(&self) -> u64 {
        self.reads / self.depth * self.depth
    }
}

/// Checks that a block starts with its number, as `write_blocks` writes it.
pub(crate) fn check_block(bytes: &[u8], block: u64) {
    assert_eq!(bytes.len(), BLOCK, "a short read");
    assert_eq!(bytes[..8], block.to_le_bytes(), "the wrong block");
}

/// Writes a file of blocks that start with their numbers.
pub(crate) fn write_blocks(path: &Path, blocks: u64) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut bytes: Vec<u8> = (0..BLOCK).map(|byte| (byte * 7) as u8).collect();
    for block in 0..blocks {
        bytes[..8].copy_from_slice(&block.to_le_bytes());
        file.write_all(&bytes)?;
    }
    file.into_inner()?.sync_all()
}

/// The line that a server prints when it is about to accept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    /// The address of the allocation counter in the process's memory.
    pub(crate) allocations_at: u64,
}

impl Ready {
    pub(crate) fn now() -> Self {
        Ready { pid: std::process::id(), allocations_at: counting::address() }
    }
}

/// The measurements of a job.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) wall_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) allocations: u64,
}

/// Measures a job without its set-up.
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: Duration,
    allocations: u64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let cpu = process_cpu(std::process::id()).expect("reading the CPU clock of this process");
        Stopwatch { cpu, allocations: counting::allocations(), start: Instant::now() }
    }

    pub(crate) fn stop(self, count: u64) -> Done {
        let wall = self.start.elapsed();
        let cpu = process_cpu(std::process::id()).expect("reading the CPU clock of this process")
            - self.cpu;
        Done {
            count,
            wall_ns: wall.as_nanos() as u64,
            cpu_ns: cpu.as_nanos() as u64,
            allocations: counting::allocations() - self.allocations,
        }
    }
}
