//! System interfaces: processors, CPU time, memory, sockets of other processes.

// # Why this file has `unsafe`
// Pinning, CPU clocks and another process's sockets need `libc` calls.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{SockRef, Socket};

/// Pins this thread, and the threads and processes that it starts, to one processor.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a zeroed set is an empty one, and outlives the calls.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the congestion control to the kernel's default, whatever the machine's setting is. `bbr`
/// paces a sender by timers to the rate that it has estimated: over loopback that measures the
/// estimate.
pub(crate) fn control_congestion<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    // Without privileges only `reno` may be allowed.
    socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"))
}

/// Returns the CPU time of all threads of a process, including its kernel workers.
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

/// Returns the private memory of a process, in bytes.
pub(crate) fn private_memory(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |field: &str| {
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    match (kib("Private_Clean:"), kib("Private_Dirty:")) {
        (Some(clean), Some(dirty)) => Ok((clean + dirty) * 1024),
        _ => Err(io::Error::other("smaps_rollup has no private memory")),
    }
}

/// Reads a number from another process's memory.
pub(crate) fn peek(pid: u32, address: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 8];
    std::fs::File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, address)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Duplicates another process's sockets, as `dup(2)` would. Needs Linux 5.6.
pub(crate) fn sockets_of(pid: u32) -> io::Result<Vec<Socket>> {
    let owned = |result: libc::c_long| match RawFd::try_from(result) {
        // SAFETY: the system call has returned a new fd, which nothing else owns.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the call has no argument that points to memory.
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
        // SAFETY: the call has no argument that points to memory.
        sockets.push(Socket::from(owned(unsafe { libc::syscall(call, process, number, 0) })?));
    }
    Ok(sockets)
}

/// Sends SIGTERM to a process.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: the call has no argument that points to memory.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}
