//! Facts about this host. A fact that is not available is `None`, not an error.

// # Why this file has `unsafe`
// It calls `getrlimit(2)`, which std has no function for.

use serde::Serialize;

/// Reads a number from a file of one line, such as those below `/proc/sys`.
fn number(path: &str) -> Option<u64> {
    line(path)?.parse().ok()
}

fn line(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[derive(Debug, Serialize)]
pub(crate) struct Kernel {
    pub(crate) system: &'static str,
    pub(crate) processor: &'static str,
    pub(crate) release: Option<String>,
    /// `kernel.io_uring_disabled`: 0 allows io_uring to all processes, 1 to a group, 2 to none.
    pub(crate) io_uring_disabled: Option<u64>,
}

impl Kernel {
    pub(crate) fn read() -> Self {
        Kernel {
            system: std::env::consts::OS,
            processor: std::env::consts::ARCH,
            release: line("/proc/sys/kernel/osrelease"),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
        }
    }
}

/// What io_uring offers.
#[derive(Debug, Serialize)]
pub(crate) struct Ring {
    /// Number of operations that the kernel supports.
    pub(crate) operations: usize,
    /// Operations that corio uses and the kernel lacks; it does these another way.
    pub(crate) missing: Vec<&'static str>,
}

impl Ring {
    #[cfg(target_os = "linux")]
    pub(crate) fn probe() -> Option<Self> {
        use io_uring::{IoUring, Probe, opcode};
        let ring = IoUring::new(8).ok()?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).ok()?;
        let used = [
            ("read", opcode::Read::CODE),
            ("write", opcode::Write::CODE),
            ("openat", opcode::OpenAt::CODE),
            ("close", opcode::Close::CODE),
            ("fsync", opcode::Fsync::CODE),
            ("fallocate", opcode::Fallocate::CODE),
            ("ftruncate", opcode::Ftruncate::CODE),
            ("statx", opcode::Statx::CODE),
            ("accept", opcode::Accept::CODE),
            ("connect", opcode::Connect::CODE),
            ("recv", opcode::Recv::CODE),
            ("send", opcode::Send::CODE),
            ("recvmsg", opcode::RecvMsg::CODE),
            ("sendmsg", opcode::SendMsg::CODE),
            ("shutdown", opcode::Shutdown::CODE),
            ("poll_add", opcode::PollAdd::CODE),
            ("async_cancel", opcode::AsyncCancel::CODE),
        ];
        let missing = used.iter().filter(|(_, code)| !probe.is_supported(*code));
        Some(Ring {
            operations: (0..=u8::MAX).filter(|code| probe.is_supported(*code)).count(),
            missing: missing.map(|(name, _)| *name).collect(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn probe() -> Option<Self> {
        None
    }
}

/// A limit of this process, and the maximum it may raise it to; `None` is no limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    /// Open files (`RLIMIT_NOFILE`).
    pub(crate) open_files: Option<Limit>,
    /// Locked memory in bytes (`RLIMIT_MEMLOCK`).
    pub(crate) locked_memory: Option<Limit>,
    /// The longest queue of connections that wait to be accepted (`net.core.somaxconn`).
    pub(crate) somaxconn: Option<u64>,
}

impl Limits {
    pub(crate) fn read() -> Self {
        Limits {
            open_files: open_files(),
            locked_memory: locked_memory(),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
        }
    }
}

#[cfg(unix)]
macro_rules! limit {
    ($resource:expr) => {{
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place for the answer.
        (unsafe { libc::getrlimit($resource, &mut limit) } == 0).then(|| {
            let bounded = |value| (value != libc::RLIM_INFINITY).then_some(value as u64);
            Limit { soft: bounded(limit.rlim_cur), hard: bounded(limit.rlim_max) }
        })
    }};
}

#[cfg(unix)]
fn open_files() -> Option<Limit> {
    limit!(libc::RLIMIT_NOFILE)
}

#[cfg(unix)]
fn locked_memory() -> Option<Limit> {
    limit!(libc::RLIMIT_MEMLOCK)
}

#[cfg(not(unix))]
fn open_files() -> Option<Limit> {
    None
}

#[cfg(not(unix))]
fn locked_memory() -> Option<Limit> {
    None
}

#[derive(Debug, Serialize)]
pub(crate) struct Cores {
    /// Processors that this process may use, by affinity and quota.
    pub(crate) usable: Option<usize>,
    /// Processors that are online, as a list of ranges.
    pub(crate) online: Option<String>,
    /// Processor time per period, both in microseconds, of this process's control group.
    pub(crate) quota: Option<String>,
    /// The frequency governor of the first core.
    pub(crate) governor: Option<String>,
}

impl Cores {
    pub(crate) fn read() -> Self {
        Cores {
            usable: std::thread::available_parallelism().ok().map(Into::into),
            online: line("/sys/devices/system/cpu/online"),
            quota: line("/sys/fs/cgroup/cpu.max"),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }
}
