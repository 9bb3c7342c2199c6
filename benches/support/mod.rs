//! Helpers of the paired benchmarks: alternating rounds, ratios per round, CPU time, pinning.
//!
//! Absolute figures drift with the machine; two programs measured in turn drift together. So each
//! round measures both, one right after the other, and only the ratio within a round counts.

// # Why this file has `unsafe`
// It asks the kernel for the thread's CPU time and pins threads to processors.

#![allow(dead_code)] // Each bench uses a part.

use std::time::Duration;

/// One measurement of one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// CPU time of the measured thread.
    pub(crate) cpu_ns_each: f64,
}

impl Sample {
    pub(crate) fn new(count: u64, wall: Duration, cpu: Duration) -> Self {
        Sample {
            per_second: count as f64 / wall.as_secs_f64(),
            cpu_ns_each: cpu.as_nanos() as f64 / count as f64,
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn spread(mut values: Vec<f64>) -> String {
    let middle = median(&mut values);
    format!("{middle:.3} ({:.3} to {:.3})", values[0], values[values.len() - 1])
}

/// Measures `ours` and `bare` in turn, `rounds` times, and prints the ratios.
pub(crate) fn paired(
    name: &str,
    rounds: usize,
    mut ours: impl FnMut() -> Sample,
    mut bare: impl FnMut() -> Sample,
) {
    let mut pairs = Vec::with_capacity(rounds);
    // One run of each to warm up, not counted.
    ours();
    bare();
    for round in 0..rounds {
        // The order alternates, so that neither is always the second.
        pairs.push(if round % 2 == 0 {
            let ours = ours();
            (ours, bare())
        } else {
            let bare = bare();
            (ours(), bare)
        });
    }
    let throughput = pairs.iter().map(|(ours, bare)| ours.per_second / bare.per_second).collect();
    let cpu = pairs.iter().map(|(ours, bare)| ours.cpu_ns_each / bare.cpu_ns_each).collect();
    let rate = |pick: fn(&(Sample, Sample)) -> f64| {
        median(&mut pairs.iter().map(pick).collect::<Vec<_>>())
    };
    println!(
        "{name:<36} throughput {:<26} cpu {:<26} [ours {:.0}/s {:.0} ns, bare {:.0}/s {:.0} ns]",
        spread(throughput),
        spread(cpu),
        rate(|pair| pair.0.per_second),
        rate(|pair| pair.0.cpu_ns_each),
        rate(|pair| pair.1.per_second),
        rate(|pair| pair.1.cpu_ns_each),
    );
}

/// Returns the CPU time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Pins this thread to a processor, if the machine has it.
pub(crate) fn pin(cpu: usize) {
    // SAFETY: a zeroed set is an empty one, and outlives the calls.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Sets the congestion control to the kernel's default, whatever the machine's setting is. `bbr`
/// paces a sender to the rate that it has estimated: over loopback that measures the estimate.
pub(crate) fn control_congestion<'a>(socket: impl Into<socket2::SockRef<'a>>) {
    let socket = socket.into();
    // Without privileges only `reno` may be allowed.
    socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno")).unwrap();
}

/// Creates the ring of the bare loops, set up as corio's.
pub(crate) fn ring() -> io_uring::IoUring {
    io_uring::IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_no_sqarray()
        .setup_cqsize(4096)
        .build(2048)
        .unwrap()
}

/// Returns `true` if run by `cargo bench`, as a measurement, not by `cargo test`.
pub(crate) fn is_measurement() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Returns the number of rounds and the duration of a sample: small when run as a test.
pub(crate) fn effort() -> (usize, Duration) {
    effort_or(9, 700)
}

/// The same, with other defaults: how many rounds, and how many milliseconds.
pub(crate) fn effort_or(rounds: u64, milliseconds: u64) -> (usize, Duration) {
    if !is_measurement() {
        (1, Duration::from_millis(20))
    } else {
        let number = |name, default| {
            std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let length = Duration::from_millis(number("MILLISECONDS", milliseconds));
        (number("ROUNDS", rounds) as usize, length)
    }
}
