//! Opens that may complete inline, as their files are cached: the results are the same as if they
//! waited, and those that have to wait delay no other operation.

// # Why this file has `unsafe`
// It makes system calls that std has no function for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(target_os = "linux")]
use std::time::Duration;

use corio::fs::File;
#[cfg(target_os = "linux")]
use corio::fs::OpenOptions;
use corio::op::AsyncOpen;

#[cfg(target_os = "linux")]
use crate::harness::limit_fds;
#[cfg(target_os = "linux")]
use crate::harness::seccomp;
use crate::harness::{
    Case, Driver, Outcome, assert_errno, assert_kind, corio_tcp_pair, errno, make_fifo, settle,
    start,
};

every_driver! {
    links_are_followed,
    a_path_is_looked_up_each_time,
    regular_files_open_after_many_devices,
    a_file_has_the_flags_that_were_asked_for,
    an_open_of_a_path_that_changes_yields_one_of_its_files;
    cases:
    a_fifo_waits_for_its_other_end,
    a_fifo_that_is_opened_to_write_waits_for_a_reader,
    a_writer_that_has_come_and_gone_is_enough_to_open_a_fifo,
    a_stopped_process_goes_on_waiting_when_it_is_continued,
    a_cancelled_open_of_a_fifo_lets_go_of_it,
}

#[cfg(target_os = "linux")]
every_driver! {
    a_lease_is_waited_for,
    a_file_is_closed_even_if_written_or_unlinked;
    cases:
    cached_files_are_opened_and_closed_without_a_turn,
    opens_work_if_seccomp_forbids_openat2,
    an_open_needs_one_fd_only,
}

fn flags(file: &impl AsRawFd) -> i32 {
    // SAFETY: passes no memory.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
}

async fn contents(path: impl AsRef<Path>) -> io::Result<String> {
    let (result, buf) = File::open(path).await?.read_at(Vec::with_capacity(64), 0).await;
    result?;
    Ok(String::from_utf8(buf).expect("only text is written here"))
}

async fn links_are_followed() -> Outcome {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("below"))?;
    std::fs::write(at("below/file"), "contents")?;
    symlink("below/file", at("link"))?;
    symlink("below", at("dir"))?;
    symlink("link", at("second"))?;
    symlink("nothing", at("dangling"))?;
    symlink("loop", at("loop"))?;
    for _ in 0..3 {
        for path in ["below/file", "link", "dir/file", "second", "dir/../link"] {
            assert_eq!(contents(at(path)).await?, "contents", "{path}");
        }
        assert!(File::open(at("dir")).await?.metadata().await?.is_dir());
        assert_kind(File::open(at("dangling")).await, ErrorKind::NotFound);
        assert_kind(File::open(at("below/nothing")).await, ErrorKind::NotFound);
        assert_kind(File::open(at("nothing/below")).await, ErrorKind::NotFound);
        assert_errno(File::open(at("loop")).await, errno::ELOOP);
        for below in ["link/", "link/below"] {
            assert_errno(File::open(at(below)).await, errno::ENOTDIR);
        }
    }
    Ok(())
}

async fn a_path_is_looked_up_each_time() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (path, next) = (dir.path().join("file"), dir.path().join("next"));
    for round in 0..20 {
        assert_kind(File::open(&path).await, ErrorKind::NotFound);
        std::fs::write(&path, format!("first {round}"))?;
        assert_eq!(contents(&path).await?, format!("first {round}"));
        let before = File::open(&path).await?;
        std::fs::write(&next, format!("second {round}"))?;
        std::fs::rename(&next, &path)?;
        assert_eq!(contents(&path).await?, format!("second {round}"));
        let (result, old) = before.read_at(Vec::with_capacity(64), 0).await;
        result?;
        assert_eq!(old, format!("first {round}").as_bytes());
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

async fn regular_files_open_after_many_devices() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    for _ in 0..3 {
        for _ in 0..100 {
            let null = File::from(AsyncOpen::new("/dev/null", libc::O_RDWR, 0).await?);
            assert_eq!(null.write_at("x", 0).await.0?, 1);
        }
        for _ in 0..100 {
            assert_eq!(contents(&path).await?, "contents");
        }
    }
    Ok(())
}

fn a_fifo_waits_for_its_other_end(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("fifo");
    make_fifo(&path)?;
    case.context().block_on(async {
        for round in 0..20 {
            // The writer's open ends when there is a reader; its write fails if the reader closes.
            let write = {
                let path = path.clone();
                move || {
                    let mut fifo = std::fs::File::options().write(true).open(path)?;
                    fifo.write_all(b"hello").map(|()| fifo)
                }
            };
            let early = (round % 2 == 0).then(|| std::thread::spawn(write.clone()));
            let opening = corio::spawn(AsyncOpen::new(&path, libc::O_RDONLY, 0));
            // An open that has to wait delays no other operation.
            settle().await;
            assert!(early.is_some() || !opening.is_finished());
            let writing = early.unwrap_or_else(|| std::thread::spawn(write));
            let reader = File::from(opening.await??);
            let _writer = writing.join().expect("no panic")?;
            assert_eq!(reader.read_exact_at([0; 5], 0).await.1, *b"hello");
            assert_eq!(flags(&reader) & libc::O_NONBLOCK, 0);
        }
        Ok(())
    })
}

fn a_fifo_that_is_opened_to_write_waits_for_a_reader(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("fifo");
    make_fifo(&path)?;
    case.context().block_on(async {
        for round in 0..20 {
            let read = {
                let path = path.clone();
                move || std::fs::File::open(path)
            };
            let early = (round % 2 == 0).then(|| std::thread::spawn(read.clone()));
            let opening = corio::spawn(AsyncOpen::new(&path, libc::O_WRONLY, 0));
            settle().await;
            assert!(early.is_some() || !opening.is_finished());
            let reading = early.unwrap_or_else(|| std::thread::spawn(read));
            let writer = File::from(opening.await??);
            let mut reader = reading.join().expect("no panic")?;
            writer.write_all_at("hello", 0).await.0?;
            assert_eq!(flags(&writer) & libc::O_NONBLOCK, 0);
            writer.close().await?;
            let mut text = String::new();
            reader.read_to_string(&mut text)?;
            assert_eq!(text, "hello");
        }
        Ok(())
    })
}

/// As in `: >fifo` of a shell: nothing is written, and the reader finds the end.
fn a_writer_that_has_come_and_gone_is_enough_to_open_a_fifo(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("fifo");
    make_fifo(&path)?;
    case.context().block_on(async {
        for round in 0..200 {
            let write = {
                let path = path.clone();
                move || std::fs::File::options().write(true).open(path).map(drop)
            };
            let early = (round % 2 == 0).then(|| std::thread::spawn(write.clone()));
            let opening = corio::spawn(AsyncOpen::new(&path, libc::O_RDONLY, 0));
            if early.is_none() {
                settle().await;
            }
            let writing = early.unwrap_or_else(|| std::thread::spawn(write));
            let reader = File::from(opening.await??);
            writing.join().expect("no panic")?;
            assert_eq!(reader.read_at([0; 5], 0).await.0?, 0);
            // A reader that is still open lets writers pass.
            reader.close().await?;
        }
        Ok(())
    })
}

/// The stop of a process interrupts what its threads wait for, those of the kernel's own too.
fn a_stopped_process_goes_on_waiting_when_it_is_continued(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (to_read, to_write) = (dir.path().join("read"), dir.path().join("write"));
    make_fifo(&to_read)?;
    make_fifo(&to_write)?;
    case.alone(|| {
        let stop = format!("kill -s STOP {0}; sleep 0.02; kill -s CONT {0}", std::process::id());
        case.context().block_on(async {
            let (stream, peer) = corio_tcp_pair()?;
            let receiving = corio::spawn(async move { stream.recv([0; 5]).await });
            let reading = corio::spawn(AsyncOpen::new(&to_read, libc::O_RDONLY, 0));
            let writing = corio::spawn(AsyncOpen::new(&to_write, libc::O_WRONLY, 0));
            for _ in 0..5 {
                settle().await;
                assert!(start(Command::new("sh").args(["-c", &stop])).wait()?.success());
            }
            settle().await;
            assert!(!receiving.is_finished() && !reading.is_finished() && !writing.is_finished());
            peer.send_all("hello").await.0?;
            assert_eq!(&receiving.await?.1, b"hello");
            let writer = std::thread::spawn(|| std::fs::File::options().write(true).open(to_read));
            let reader = std::thread::spawn(|| std::fs::File::open(to_write));
            let reading = reading.await??;
            let writing = writing.await??;
            writer.join().expect("no panic")?;
            reader.join().expect("no panic")?;
            drop((reading, writing));
            Ok(())
        })
    })
}

/// The cancelled open is no reader, for which a writer's open would not wait.
fn a_cancelled_open_of_a_fifo_lets_go_of_it(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("fifo");
    make_fifo(&path)?;
    // The number of `IORING_OP_OPENAT`.
    let refused = std::env::var("CORIO_TEST_REFUSE").is_ok_and(|opcode| opcode == "18");
    if case.driver != Driver::IoUring || refused {
        eprintln!("left out: a thread waits there, which only the other end can wake");
        return Ok(());
    }
    case.alone(|| {
        let mut context = case.context();
        context.block_on(settle());
        let before = crate::harness::open_fds();
        context.block_on(async {
            for access in [libc::O_RDONLY, libc::O_WRONLY] {
                let open = AsyncOpen::new(&path, access, 0);
                let error = open.with_timeout(Duration::from_millis(5)).await.expect_err("a limit");
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                let without = libc::O_WRONLY | libc::O_NONBLOCK;
                assert_errno(AsyncOpen::new(&path, without, 0).await, libc::ENXIO);
            }
            Outcome::Ok(())
        })?;
        assert_eq!(crate::harness::open_fds(), before);
        Ok(())
    })
}

async fn a_file_has_the_flags_that_were_asked_for() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    let access = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR];
    let extra = [libc::O_APPEND, libc::O_NONBLOCK, libc::O_SYNC, libc::O_NOFOLLOW, libc::O_NOCTTY];
    for access in access {
        for bits in 0..1 << extra.len() {
            let chosen = extra.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
            let custom = chosen.fold(0, |all, (_, one)| all | one);
            let theirs = std::fs::File::options()
                .read(access != libc::O_WRONLY)
                .write(access != libc::O_RDONLY)
                .custom_flags(custom)
                .open(&path)?;
            let ours: OwnedFd = AsyncOpen::new(&path, access | custom, 0).await?;
            assert_eq!(flags(&ours), flags(&theirs), "{access:o} and {custom:o}");
            assert!(crate::harness::is_cloexec(&ours));
        }
    }
    Ok(())
}

/// The file whose kind was checked is the one that is opened, and gets no flag of the check.
async fn an_open_of_a_path_that_changes_yields_one_of_its_files() -> Outcome {
    let dir = tempfile::tempdir()?;
    let [path, file, fifo] = ["path", "file", "fifo"].map(|name| dir.path().join(name));
    std::fs::write(&file, "contents")?;
    make_fifo(&fifo)?;
    // With both ends open, a FIFO's open does not wait.
    let _both = std::fs::File::options().read(true).write(true).open(&fifo)?;
    std::fs::hard_link(&file, &path)?;
    let done = Arc::new(AtomicBool::new(false));
    let switching = std::thread::spawn({
        let (done, path, link) = (done.clone(), path.clone(), dir.path().join("link"));
        move || -> io::Result<()> {
            for next in [fifo, file].iter().cycle().take(1_000_000) {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::fs::hard_link(next, &link)?;
                std::fs::rename(&link, &path)?;
            }
            Ok(())
        }
    });
    for _ in 0..500 {
        let opened = AsyncOpen::new(&path, libc::O_RDONLY, 0).await?;
        assert_eq!(flags(&opened) & libc::O_NONBLOCK, 0);
        let kind = std::fs::File::from(opened).metadata()?.file_type();
        assert!(kind.is_file() || kind.is_fifo());
    }
    done.store(true, Ordering::Relaxed);
    switching.join().expect("no panic")?;
    Ok(())
}

/// The holder of a write lease on a file must release it before others may open the file.
#[cfg(target_os = "linux")]
async fn a_lease_is_waited_for() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    let holder = std::fs::File::options().write(true).open(&path)?;
    let control = |command: i32, argument: i32| {
        // SAFETY: none of these commands passes memory.
        unsafe { libc::fcntl(holder.as_raw_fd(), command, argument) }
    };
    for _ in 0..3 {
        // By default the kernel asks for the lease by `SIGIO`, which ends the process; `SIGURG`
        // does nothing.
        assert_eq!(control(F_SETSIG, libc::SIGURG), 0);
        if control(libc::F_SETLEASE, libc::F_WRLCK) < 0 {
            eprintln!("left out: no leases here: {}", io::Error::last_os_error());
            return Ok(());
        }
        let opening = corio::spawn(AsyncOpen::new(&path, libc::O_RDONLY, 0));
        settle().await;
        assert!(!opening.is_finished());
        assert_eq!(control(libc::F_SETLEASE, libc::F_UNLCK), 0);
        let opened = opening.await??;
        assert_eq!(flags(&opened) & libc::O_NONBLOCK, 0);
    }
    Ok(())
}

/// Not in libc for every host.
#[cfg(target_os = "linux")]
const F_SETSIG: i32 = 10;

/// Whether opens in `dir` can complete inline; prints that a test is left out if not.
#[cfg(target_os = "linux")]
fn may_end_at_once(case: Case, dir: &Path) -> io::Result<bool> {
    let dir = std::fs::File::open(dir)?;
    // SAFETY: all zeros are valid values; the path ends with a NUL, and both places are there.
    let (cached, kind) = unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = libc::O_PATH as u64;
        how.resolve = libc::RESOLVE_CACHED;
        let (path, len) = (c"/".as_ptr(), size_of::<libc::open_how>());
        let cached = libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path, &raw const how, len);
        libc::close(cached as i32);
        let mut stat: libc::statfs = std::mem::zeroed();
        assert_eq!(libc::fstatfs(dir.as_raw_fd(), &mut stat), 0);
        (cached, stat.f_type)
    };
    let local = [libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&kind);
    if case.driver != Driver::Readiness || cached < 0 || !local {
        eprintln!("left out: opens take a turn here ({kind:x}, {cached})");
        return Ok(false);
    }
    Ok(true)
}

#[cfg(target_os = "linux")]
fn cached_files_are_opened_and_closed_without_a_turn(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    if !may_end_at_once(case, dir.path())? {
        return Ok(());
    }
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    let missing = dir.path().join("missing");
    case.context().block_on(async {
        // The first opens fill the kernel's cache, with missing names too.
        for _ in 0..4 {
            File::open(&path).await?;
            assert_kind(File::open(&missing).await, ErrorKind::NotFound);
        }
        settle().await;
        let before = corio::stats();
        for _ in 0..30 {
            File::open(&path).await?;
            assert_kind(File::open(&missing).await, ErrorKind::NotFound);
        }
        let after = corio::stats();
        assert_eq!(after.turns, before.turns);
        // Six for an open, three for a close, one for the missing file; a job on a thread counts
        // as one.
        assert_eq!(after.syscalls - before.syscalls, 30 * (6 + 3 + 1));

        settle().await;
        let before = corio::stats();
        for _ in 0..20 {
            let file = File::open(&path).await?;
            assert_eq!(file.read_exact_at([0; 8], 0).await.1, *b"contents");
            file.close().await?;
        }
        assert_eq!(corio::stats().turns, before.turns);
        Ok(())
    })
}

#[cfg(target_os = "linux")]
async fn opens_are_right() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    for _ in 0..10 {
        assert_eq!(contents(&path).await?, "contents");
        assert_kind(File::open(dir.path().join("missing")).await, ErrorKind::NotFound);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
async fn a_file_is_closed_even_if_written_or_unlinked() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    for round in 0..8 {
        std::fs::write(&path, "contents")?;
        let (writes, has_gone, waits) = (round & 1 != 0, round & 2 != 0, round & 4 != 0);
        let file = OpenOptions::new().read(true).write(writes).open(&path).await?;
        assert_eq!(file.read_exact_at([0; 8], 0).await.1, *b"contents");
        let fd = file.as_raw_fd();
        if has_gone {
            std::fs::remove_file(&path)?;
        }
        if waits {
            file.close().await?
        } else {
            drop(file)
        }
        // By now some other test's file may have its number.
        let is_open = || {
            let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
            link.is_ok_and(|link| {
                link.as_os_str().as_bytes().starts_with(path.as_os_str().as_bytes())
            })
        };
        for _ in 0..1000 {
            if !is_open() {
                break;
            }
            corio::sleep(Duration::from_millis(5)).await;
        }
        assert!(!is_open(), "round {round}");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn opens_work_if_seccomp_forbids_openat2(case: Case) -> Outcome {
    if !seccomp::is_here() {
        return Ok(());
    }
    let openat2 = libc::SYS_openat2 as u32;
    case.alone(|| {
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOENT] {
            // A filter lasts as long as its thread.
            let thread = std::thread::spawn(move || {
                seccomp::forbid(openat2..=openat2, errno).expect("a filter");
                let opened = case.context().block_on(opens_are_right());
                opened.unwrap_or_else(|error| panic!("with {errno}: {error}"));
            });
            thread.join().expect("no panic");
        }
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL] {
            let thread = std::thread::spawn(move || {
                let mut context = case.context();
                context.block_on(opens_are_right()).expect("no filter yet");
                seccomp::forbid(openat2..=openat2, errno).expect("a filter");
                let opened = context.block_on(opens_are_right());
                opened.unwrap_or_else(|error| panic!("with {errno} from now on: {error}"));
            });
            thread.join().expect("no panic");
        }
        Ok(())
    })
}

/// An open may use one fd more for a moment, but does not need it.
#[cfg(target_os = "linux")]
fn an_open_needs_one_fd_only(case: Case) -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("file");
    std::fs::write(&path, "contents")?;
    case.alone(|| {
        let mut context = case.context();
        context.block_on(async {
            // Afterwards the driver has closed its own fd, too.
            File::open(&path).await?.close().await?;
            settle().await;
            let next = std::fs::File::open(&path)?.as_raw_fd() as u64;
            let old = limit_fds(next + 1)?;
            for _ in 0..3 {
                let last = AsyncOpen::new(&path, libc::O_RDONLY, 0).await?;
                assert_eq!(last.as_raw_fd() as u64, next);
                let refused = AsyncOpen::new(&path, libc::O_RDONLY, 0).await;
                assert_errno(refused.map(drop), libc::EMFILE);
            }
            limit_fds(old)?;
            Ok(())
        })
    })
}
