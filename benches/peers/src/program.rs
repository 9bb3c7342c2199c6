//! What a measured program is to its measurer: what it is asked for, what it tells.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::counting;
use crate::system::process_cpu;

/// What a server does with its connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Sends back what comes, through a buffer of so many bytes per connection.
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
    /// Spawns and joins: `at_once` tasks, then the next so many.
    Spawn {
        tasks: u64,
        at_once: u64,
    },
    Yield {
        tasks: u64,
        times: u64,
    },
    /// One sleep after the other.
    Sleep {
        nanoseconds: u64,
        times: u64,
    },
    /// As many tasks, each with one sleep of up to 100 ms.
    Timers {
        tasks: u64,
    },
    /// Messages from one thread to another.
    Channel {
        messages: u64,
    },
    /// Messages there and back, one at a time.
    Wake {
        round_trips: u64,
    },
}

/// Reads of 4 KiB at scattered places of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reads {
    pub(crate) file: PathBuf,
    pub(crate) direct: bool,
    pub(crate) depth: u64,
    pub(crate) reads: u64,
}

pub(crate) const BLOCK: usize = 4096;

impl Reads {
    /// The blocks that one of `depth` readers reads, in no order.
    pub(crate) fn blocks(&self, reader: u64) -> impl Iterator<Item = u64> + use<> {
        let blocks = std::fs::metadata(&self.file).expect("the file is there").len() / BLOCK as u64;
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
        File::options().read(true).custom_flags(flags).open(&self.file).expect("the file opens")
    }

    /// The reads that are really made.
    pub(crate) fn count(&self) -> u64 {
        self.reads / self.depth * self.depth
    }
}

/// Each block of a file of reads starts with its number.
pub(crate) fn check_block(bytes: &[u8], block: u64) {
    assert_eq!(bytes.len(), BLOCK, "a short read");
    assert_eq!(bytes[..8], block.to_le_bytes(), "the wrong block");
}

/// A file for reads, and for copies.
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

/// What a server tells when it is about to accept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    /// Where in the memory of the process its allocations are counted.
    pub(crate) allocations_at: u64,
}

impl Ready {
    pub(crate) fn now() -> Self {
        Ready { pid: std::process::id(), allocations_at: counting::address() }
    }
}

/// What a job did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) wall_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) allocations: u64,
}

/// Started where the work begins, so that setting up is not measured.
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: Duration,
    allocations: u64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let cpu = process_cpu(std::process::id()).expect("this process is there");
        Stopwatch { cpu, allocations: counting::allocations(), start: Instant::now() }
    }

    pub(crate) fn stop(self, count: u64) -> Done {
        let wall = self.start.elapsed();
        let cpu = process_cpu(std::process::id()).expect("this process is there") - self.cpu;
        Done {
            count,
            wall_ns: wall.as_nanos() as u64,
            cpu_ns: cpu.as_nanos() as u64,
            allocations: counting::allocations() - self.allocations,
        }
    }
}
