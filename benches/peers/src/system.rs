//! What has to be asked of the system: processors, CPU time, memory.
//!
//! # Why this file has `unsafe`
//! Pinning, CPU clocks and another process's sockets are bare C calls.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{SockRef, Socket};

/// Keeps this thread, and those it starts, on one processor.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a zeroed set is an empty one, and outlives the calls.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel's default way to control congestion, whatever this machine is set to. Under `bbr` a
/// sender is held to the rate that it has estimated, by timers: over loopback that measures the estimate.
pub(crate) fn control_congestion<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    // A program without privileges may be allowed only the plain one.
    socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"))
}

/// The CPU time that all threads of a process have used, the kernel's workers for it among them.
pub(crate) fn process_cpu(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid place to write to.
    let result = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The memory that is the process's alone, in bytes.
pub(crate) fn private_memory(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |field: &str| {
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    match (kib("Private_Clean:"), kib("Private_Dirty:")) {
        (Some(clean), Some(dirty)) => Ok((clean + dirty) * 1024),
        _ => Err(io::Error::other("smaps_rollup tells no private memory")),
    }
}

/// A number in another process's memory.
pub(crate) fn peek(pid: u32, address: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 8];
    std::fs::File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, address)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Another process's sockets; shared with it, as if by `dup(2)`. Linux 5.6.
pub(crate) fn sockets_of(pid: u32) -> io::Result<Vec<Socket>> {
    let owned = |result: libc::c_long| match RawFd::try_from(result) {
        // SAFETY: the kernel has just made this fd for us.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: no memory is involved.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse::<RawFd>().ok();
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let Some(number) = number.filter(|_| target.to_string_lossy().starts_with("socket:"))
        else {
            continue;
        };
        let (process, call) = (process.as_raw_fd(), libc::SYS_pidfd_getfd);
        // SAFETY: no memory is involved.
        sockets.push(Socket::from(owned(unsafe { libc::syscall(call, process, number, 0) })?));
    }
    Ok(sockets)
}

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: sends a signal, and touches no memory.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}
