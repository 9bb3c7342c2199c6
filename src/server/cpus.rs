//! The processors that this process may use, and their topology.

// # Why this file has `unsafe`
// `sched_getaffinity(2)` and `sched_setaffinity(2)` take a pointer to a set of processors.

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
    /// Its number in the system.
    pub id: usize,
    /// Its core within its package; processors of one core share their execution units.
    pub core: usize,
    /// Its package, that is, the chip that it is on.
    pub package: usize,
    /// Its NUMA node; memory of other nodes is slower for it.
    pub node: usize,
}

/// Returns the processors that this process may use, in the order in which workers are pinned to
/// them: one of each core before the second of any, and those of one NUMA node together.
///
/// Read from `sched_getaffinity(2)` and `/sys/devices/system/cpu`; processors that the latter does
/// not describe count as one package and one node. Empty on systems without these (macOS, Windows).
///
/// # Examples
/// See [`Cpu`].
pub fn cpus() -> Vec<Cpu> {
    in_order(allowed().into_iter().map(host::describe).collect())
}

/// Returns the default number of workers: the number of processors that may be used, or fewer if a
/// cgroup's quota limits their time.
pub(super) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn in_order(mut cpus: Vec<Cpu>) -> Vec<Cpu> {
    cpus.sort_by_key(|cpu| (cpu.node, cpu.package, cpu.core, cpu.id));
    let mut previous = None;
    let mut nth = 0;
    // With each processor's rank among those of its core.
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

    /// The number of processors in a set; the kernel refuses sets smaller than its own.
    const MAX: usize = 8192;
    const BITS: usize = usize::BITS as usize;
    type Set = [usize; MAX / BITS];

    pub(crate) fn allowed() -> Vec<usize> {
        let mut set: Set = [0; MAX / BITS];
        // SAFETY: the pointer and the size are those of `set`, which consists of words, as the
        // kernel's sets do.
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
        (0..MAX).filter(|cpu| set[cpu / BITS] & (1 << (cpu % BITS)) != 0).collect()
    }

    /// Pins the calling thread to one processor.
    pub(crate) fn pin(cpu: usize) -> io::Result<()> {
        let mut set: Set = [0; MAX / BITS];
        set[cpu / BITS] |= 1 << (cpu % BITS);
        // SAFETY: the pointer and the size are those of `set`, which the kernel only reads.
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
        // The folder has a link to its node's, such as `node7`.
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
        assert!(pin(LARGEST_NUMBER).is_err());
    }

    #[cfg(target_os = "linux")]
    const LARGEST_NUMBER: usize = 8191;
}
