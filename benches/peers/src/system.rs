//! What has to be asked of the system: processors, CPU time, memory.
//!
//! # Why this file has `unsafe`
//! Pinning and CPU clocks are bare C calls.

use std::io;
use std::time::Duration;

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

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: sends a signal, and touches no memory.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}
