//! Which processors this process may use, and how they belong together.
//!
//! # Why this file has `unsafe`
//! It asks for, and sets, the affinity of a thread.

/// A processor that this process may use.
///
/// # Examples
/// ```
/// for cpu in corio::server::cpus() {
///     println!("processor {} is in core {} of node {}", cpu.id, cpu.core, cpu.node);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Cpu {
    /// Its number, as the system counts.
    pub id: usize,
    /// Its core within its package; processors of one core share their execution units.
    pub core: usize,
    /// Its package, that is, the chip it is on.
    pub package: usize,
    /// Its memory node; memory of other nodes is slower for it.
    pub node: usize,
}

/// The processors that this process may use, in the order in which workers get them: one of each core
/// before the second of any, and those of one memory node together.
///
/// Read from `sched_getaffinity(2)` and `/sys/devices/system/cpu`; what the latter does not tell
/// counts as one package and one node. Empty where a host has no such thing (macOS, Windows).
pub fn cpus() -> Vec<Cpu> {
    in_order(allowed().into_iter().map(host::describe).collect())
}

/// How many workers there are by default: as many as processors may be used, fewer if the time on
/// them is limited (a cgroup's quota).
pub(super) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn in_order(mut cpus: Vec<Cpu>) -> Vec<Cpu> {
    cpus.sort_by_key(|cpu| (cpu.node, cpu.package, cpu.core, cpu.id));
    let mut previous = None;
    let mut nth = 0;
    // Which of its core's processors each one is.
    let mut ranked: Vec<(usize, Cpu)> = cpus
        .into_iter()
        .map(|cpu| {
            let core = Some((cpu.node, cpu.package, cpu.core));
            nth = if core == previous { nth + 1 } else { 0 };
            previous = core;
            (nth, cpu)
        })
        .collect();
    ranked.sort_by_key(|&(nth, _)| nth);
    ranked.into_iter().map(|(_, cpu)| cpu).collect()
}

pub(super) use host::{allowed, pin};

#[cfg(target_os = "linux")]
mod host {
    use std::io;
    use std::path::Path;

    use super::Cpu;

    /// Room for the largest systems there are; the kernel refuses less than it has.
    const MOST: usize = 8192;
    const BITS: usize = usize::BITS as usize;
    type Set = [usize; MOST / BITS];

    pub(crate) fn allowed() -> Vec<usize> {
        let mut set: Set = [0; MOST / BITS];
        // SAFETY: the set is as large as is said. It is made of words, as the kernel's is.
        let result = unsafe {
            libc::sched_getaffinity(
                0,
                size_of_val(&set),
                set.as_mut_ptr().cast::<libc::cpu_set_t>(),
            )
        };
        if result < 0 {
            return Vec::new();
        }
        (0..MOST).filter(|cpu| set[cpu / BITS] & (1 << (cpu % BITS)) != 0).collect()
    }

    /// Keeps the calling thread on one processor.
    pub(crate) fn pin(cpu: usize) -> io::Result<()> {
        let mut set: Set = [0; MOST / BITS];
        set[cpu / BITS] |= 1 << (cpu % BITS);
        // SAFETY: as in `allowed`.
        let result = unsafe {
            libc::sched_setaffinity(0, size_of_val(&set), set.as_ptr().cast::<libc::cpu_set_t>())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(super) fn describe(id: usize) -> Cpu {
        let folder = Path::new("/sys/devices/system/cpu").join(format!("cpu{id}"));
        let number = |name: &str| {
            let text = std::fs::read_to_string(folder.join("topology").join(name)).ok()?;
            text.trim().parse().ok()
        };
        // A link to the node's folder is named `node7`.
        let node = std::fs::read_dir(&folder).ok().and_then(|entries| {
            entries
                .flatten()
                .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        });
        Cpu {
            id,
            core: number("core_id").unwrap_or(id),
            package: number("physical_package_id").unwrap_or(0),
            node: node.unwrap_or(0),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod host {
    use std::io;

    use super::Cpu;

    pub(crate) fn allowed() -> Vec<usize> {
        Vec::new()
    }

    pub(crate) fn pin(_: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn describe(id: usize) -> Cpu {
        Cpu { id, core: id, package: 0, node: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(id: usize, core: usize, node: usize) -> Cpu {
        Cpu { id, core, package: node, node }
    }

    #[test]
    fn every_core_comes_before_any_second_thread() {
        let cpus = vec![cpu(0, 0, 0), cpu(1, 1, 0), cpu(2, 0, 1), cpu(3, 0, 0), cpu(4, 1, 0)];
        let order: Vec<_> = in_order(cpus).into_iter().map(|cpu| cpu.id).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        let twisted = vec![cpu(0, 0, 0), cpu(1, 0, 0), cpu(2, 1, 0), cpu(3, 1, 0)];
        let order: Vec<_> = in_order(twisted).into_iter().map(|cpu| cpu.id).collect();
        assert_eq!(order, [0, 2, 1, 3]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pinned_thread_may_use_its_processor_only() {
        std::thread::spawn(|| {
            let last = *allowed().last().unwrap();
            pin(last).unwrap();
            assert_eq!(allowed(), [last]);
        })
        .join()
        .unwrap();
        assert!(pin(MOST_UNLIKELY).is_err());
    }

    #[cfg(target_os = "linux")]
    const MOST_UNLIKELY: usize = 8191;
}
