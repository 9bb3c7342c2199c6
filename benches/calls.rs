//! Plain system calls on paths: by the ring, whose kernel workers make them, and by the pool's
//! threads.
//!
//! `cargo bench --bench calls`. Rounds of both in turn; a figure is the ring's divided by the
//! pool's. More operations per second and less CPU time (of the whole process, kernel workers
//! included) are better. `ROUNDS` and `COUNT` set the number of rounds and of steps in each.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use corio::{DriverChoice, IoContext, fs};
    use io_uring::opcode;

    use crate::support::spread;

    /// What one step does in its own directory, as two operations.
    #[derive(Clone, Copy)]
    enum Step {
        CreateAndRemove,
        RenameTwice,
    }

    const STEPS: [(&str, Step); 2] =
        [("mkdir, rmdir", Step::CreateAndRemove), ("rename, there and back", Step::RenameTwice)];

    async fn run(step: Step, dir: PathBuf, count: usize) {
        let (one, two) = (dir.join("one"), dir.join("two"));
        for _ in 0..count {
            match step {
                Step::CreateAndRemove => {
                    fs::create_dir(&one).await.unwrap();
                    fs::remove_dir(&one).await.unwrap();
                }
                Step::RenameTwice => {
                    fs::rename(&one, &two).await.unwrap();
                    fs::rename(&two, &one).await.unwrap();
                }
            }
        }
    }

    /// Seconds of wall and of CPU time for `count` steps in each of `tasks` tasks.
    fn measure(by_ring: bool, step: Step, dirs: &[PathBuf], count: usize) -> (f64, f64) {
        let mut builder = IoContext::builder().driver(DriverChoice::Uring);
        if !by_ring {
            for opcode in [opcode::MkDirAt::CODE, opcode::UnlinkAt::CODE, opcode::RenameAt::CODE] {
                builder = builder.refuse_opcode(opcode);
            }
        }
        let mut context = builder.build().unwrap();
        let once = |context: &mut IoContext, count| {
            context.block_on(async {
                let spawn = |dir: &PathBuf| corio::spawn(run(step, dir.clone(), count));
                for task in dirs.iter().map(spawn).collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
        };
        once(&mut context, 10);
        let (started, cpu) = (Instant::now(), process_cpu());
        once(&mut context, count);
        (started.elapsed().as_secs_f64(), process_cpu() - cpu)
    }

    fn process_cpu() -> f64 {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: a valid place, which the call fills.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    fn number(name: &str, default: usize) -> usize {
        std::env::var(name).map_or(default, |text| text.parse().expect(name))
    }

    fn dirs(root: &Path, tasks: usize, step: Step) -> Vec<PathBuf> {
        let dirs: Vec<_> = (0..tasks).map(|task| root.join(format!("{tasks}-{task}"))).collect();
        for dir in &dirs {
            std::fs::create_dir(dir).unwrap();
            if matches!(step, Step::RenameTwice) {
                std::fs::write(dir.join("one"), "").unwrap();
            }
        }
        dirs
    }

    pub(super) fn main() {
        // `cargo test --benches` runs each bench once.
        let test = !std::env::args().any(|arg| arg == "--bench");
        let (rounds, count) =
            if test { (1, 10) } else { (number("ROUNDS", 9), number("COUNT", 2000)) };
        for (name, step) in STEPS {
            for tasks in [1, 16] {
                let root = tempfile::tempdir().unwrap();
                let dirs = dirs(root.path(), tasks, step);
                let (mut speed, mut cpu) = (Vec::new(), Vec::new());
                for _ in 0..rounds {
                    let ring = measure(true, step, &dirs, count / tasks);
                    let pool = measure(false, step, &dirs, count / tasks);
                    speed.push(pool.0 / ring.0);
                    cpu.push(ring.1 / pool.1);
                }
                println!(
                    "{name:<24} {tasks:>2} at a time: throughput {}, CPU {}",
                    spread(speed),
                    spread(cpu)
                );
            }
        }
    }
}
