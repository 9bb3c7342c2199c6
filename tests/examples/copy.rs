//! `copy`: copies are exact, or not made.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode};
use tempfile::TempDir;

use crate::process::{Finished, GUARD, Running, example, finish, ignores_hangup, limited};

/// A directory for sources, and one for copies, in which a failed copy must leave nothing.
struct Place {
    sources: TempDir,
    copies: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { sources: TempDir::new().unwrap(), copies: TempDir::new().unwrap() }
    }

    fn source(&self, bytes: &[u8]) -> PathBuf {
        let path = self.sources.path().join("source");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn copy(&self) -> PathBuf {
        self.copies.path().join("copy")
    }

    /// Returns the names of all files in the directory for copies.
    fn left(&self) -> Vec<OsString> {
        fs::read_dir(self.copies.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }
}

/// Bytes that differ from block to block.
fn content(len: usize) -> Vec<u8> {
    (0..len.div_ceil(8)).flat_map(|word| (word as u64).to_le_bytes()).take(len).collect()
}

fn copying(src: &Path, dst: &Path) -> Command {
    let mut command = example("copy");
    command.args([src, dst]);
    command
}

#[track_caller]
fn assert_copied(command: &mut Command, src: &Path, dst: &Path) {
    let copied = finish(command);
    assert!(copied.status.success(), "{copied:?}");
    // No terminal, so no progress bar.
    assert_eq!((copied.stdout.as_str(), copied.stderr.as_str()), ("", ""));
    assert!(fs::read(src).unwrap() == fs::read(dst).unwrap(), "the copy differs");
}

#[track_caller]
fn assert_refused(result: &Finished, why: &str) {
    assert_eq!(result.status.code(), Some(1), "{result:?}");
    assert!(result.stderr.starts_with("copy: ") && result.stderr.contains(why), "{result:?}");
}

#[test]
fn files_of_any_length_are_copied_to_the_byte() {
    for len in [0, 1, 4095, 4096, (1 << 20) + 3, 20 << 20] {
        let place = Place::new();
        let (src, dst) = (place.source(&content(len)), place.copy());
        assert_copied(&mut copying(&src, &dst), &src, &dst);
        assert_eq!(place.left(), ["copy"]);
    }
}

#[test]
fn blocks_of_any_size_and_number_give_the_same_copy() {
    for (block_size, depth) in [("1", "1"), ("7", "256"), ("4096", "3"), ("1073741824", "1")] {
        let place = Place::new();
        let (src, dst) = (place.source(&content(10_007)), place.copy());
        let mut command = copying(&src, &dst);
        command.args(["--block-size", block_size, "--depth", depth]);
        assert_copied(&mut command, &src, &dst);
    }
}

#[test]
fn a_hole_at_the_end_is_part_of_the_copy() {
    let place = Place::new();
    let (src, dst) = (place.source(b"data"), place.copy());
    fs::File::options().write(true).open(&src).unwrap().set_len((3 << 20) + 1).unwrap();
    assert_copied(&mut copying(&src, &dst), &src, &dst);
}

#[test]
fn permissions_are_kept() {
    for mode in [0o600, 0o640, 0o755, 0o444] {
        let place = Place::new();
        let (src, dst) = (place.source(b"data"), place.copy());
        fs::set_permissions(&src, Permissions::from_mode(mode)).unwrap();
        assert_copied(&mut copying(&src, &dst), &src, &dst);
        assert_eq!(fs::metadata(&dst).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn a_bare_name_is_in_the_current_directory() {
    let place = Place::new();
    let src = place.source(b"data");
    let mut command = example("copy");
    command.arg(&src).arg("copy").current_dir(place.copies.path());
    assert_copied(&mut command, &src, &place.copy());
}

#[test]
fn what_exists_is_replaced_only_by_force() {
    let place = Place::new();
    let (src, dst) = (place.source(b"new"), place.copy());
    fs::write(&dst, "old, and longer").unwrap();
    assert_refused(&finish(&mut copying(&src, &dst)), "--force");
    assert_eq!(fs::read(&dst).unwrap(), b"old, and longer");
    assert_copied(copying(&src, &dst).arg("--force"), &src, &dst);
    assert_eq!(place.left(), ["copy"]);
}

#[test]
fn a_link_that_leads_nowhere_counts_as_existing() {
    let place = Place::new();
    let (src, dst) = (place.source(b"data"), place.copy());
    symlink("nowhere", &dst).unwrap();
    assert_refused(&finish(&mut copying(&src, &dst)), "--force");
    assert_copied(copying(&src, &dst).arg("--force"), &src, &dst);
    assert!(fs::symlink_metadata(&dst).unwrap().is_file(), "the link itself is replaced");
}

#[test]
fn a_file_is_not_copied_onto_itself_by_whatever_name() {
    let place = Place::new();
    let src = place.source(b"precious");
    let (soft, hard) = (place.copies.path().join("soft"), place.copies.path().join("hard"));
    symlink(&src, &soft).unwrap();
    fs::hard_link(&src, &hard).unwrap();
    for dst in [&src, &soft, &hard] {
        for force in [&[][..], &["--force"]] {
            assert_refused(&finish(copying(&src, dst).args(force)), "are the same file");
        }
    }
    assert_eq!(fs::read(&src).unwrap(), b"precious");
}

#[test]
fn what_can_not_be_read_or_written_is_refused() {
    let place = Place::new();
    let dst = place.copy();
    let missing = place.sources.path().join("missing");
    assert_refused(&finish(&mut copying(&missing, &dst)), "missing: No such file");
    assert_refused(&finish(&mut copying(place.sources.path(), &dst)), "is a directory");
    assert_refused(&finish(&mut copying(Path::new("/dev/zero"), &dst)), "is not a regular file");

    let src = place.source(b"data");
    fs::set_permissions(&src, Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same.
    if fs::File::open(&src).is_err() {
        assert_refused(&finish(&mut copying(&src, &dst)), "source: Permission denied");
    }
    let forced = finish(copying(&src, place.copies.path()).arg("--force"));
    assert_refused(&forced, "is a directory");
    let nowhere = place.copies.path().join("no/such/directory");
    assert_refused(&finish(&mut copying(&src, &nowhere)), "No such file");
    assert!(place.left().is_empty());
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let place = Place::new();
    let (src, dst) = (place.source(&content(4 << 20)), place.copy());
    // Files of at most 64 blocks of 512 (or, in some shells, 1024) bytes.
    let mut command = limited("-f 64", "copy");
    assert_refused(&finish(command.args([&src, &dst])), "copy: File too large");
    assert!(place.left().is_empty());

    fs::write(&dst, "old").unwrap();
    assert_refused(&finish(command.arg("--force")), "copy: File too large");
    assert_eq!(place.left(), ["copy"]);
    assert_eq!(fs::read(&dst).unwrap(), b"old");
}

#[test]
fn a_source_that_is_shorter_than_it_said_leaves_nothing_behind() {
    // Files of sysfs report a length of a page, and end after a line.
    let src = Path::new("/sys/devices/system/cpu/online");
    if fs::metadata(src).is_ok_and(|metadata| metadata.len() >= 4096) {
        let place = Place::new();
        assert_refused(&finish(&mut copying(src, &place.copy())), "became shorter");
        assert!(place.left().is_empty());
    }
}

#[test]
fn a_source_that_is_longer_than_it_said_leaves_nothing_behind() {
    // Files of procfs report a length of zero.
    let place = Place::new();
    let src = Path::new("/proc/self/status");
    assert_refused(&finish(&mut copying(src, &place.copy())), "grew");
    assert!(place.left().is_empty());
}

/// Waits until a process has a file open in `directory`, with a name there or without one.
#[cfg(target_os = "linux")]
fn wait_for_file_in(directory: &Path, running: &mut Running) {
    let start = Instant::now();
    let fds = format!("/proc/{}/fd", running.id());
    let is_there = || {
        let fds = fs::read_dir(&fds).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.starts_with(directory))
    };
    while !is_there() {
        assert!(!running.has_ended() && start.elapsed() < GUARD, "no unfinished file");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a copy that is under way; asserts that it leaves nothing behind.
#[cfg(target_os = "linux")]
fn interrupted(signal: &str) -> Finished {
    let place = Place::new();
    let (src, dst) = (place.source(&content(64 << 20)), place.copy());
    // Byte by byte this takes minutes.
    let mut command = copying(&src, &dst);
    let mut running = Running::start(command.args(["--block-size", "1", "--depth", "2"]));
    wait_for_file_in(place.copies.path(), &mut running);
    running.signal(signal);
    let end = running.finish();
    assert!(place.left().is_empty(), "SIG{signal} left {:?}", place.left());
    end
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_leaves_nothing_behind() {
    for signal in ["INT", "TERM", "QUIT", "HUP"] {
        if signal == "HUP" && ignores_hangup() {
            println!("left out: SIGHUP, which this process ignores");
            continue;
        }
        let end = interrupted(signal);
        assert_eq!((end.status.code(), end.stderr.as_str()), (Some(130), "copy: interrupted\n"));
    }
}

/// For files without names: on other file systems no program can do that.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_no_program_can_catch_leaves_nothing_behind() {
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::process::ExitStatusExt;
    let mut unnamed = fs::File::options();
    unnamed.write(true).custom_flags(libc::O_TMPFILE);
    if let Err(error) = unnamed.open(TempDir::new().unwrap().path()) {
        return println!("left out: no files without names here: {error}");
    }
    for (signal, number) in [("KILL", libc::SIGKILL), ("XCPU", libc::SIGXCPU)] {
        assert_eq!(interrupted(signal).status.signal(), Some(number));
    }
}

#[test]
fn holes_are_not_filled() {
    const LEN: u64 = 1 << 40;
    let place = Place::new();
    let (src, dst) = (place.source(b"begin"), place.copy());
    let file = fs::File::options().read(true).write(true).open(&src).unwrap();
    if let Err(error) = file.set_len(LEN) {
        return println!("left out: no files of 1 TiB here: {error}");
    }
    // A file with data at its begin, in the middle and at its end.
    let end = content(100_000);
    let pieces = [(0, &b"begin"[..]), (LEN / 2 - 3, b"middle"), (LEN - 100_000, &end)];
    for (offset, piece) in pieces {
        file.write_all_at(piece, offset).unwrap();
    }
    let copied = finish(&mut copying(&src, &dst));
    assert!(copied.status.success(), "{copied:?}");
    let copy = fs::File::open(&dst).unwrap();
    let metadata = copy.metadata().unwrap();
    assert_eq!(metadata.len(), LEN);
    let allocated = metadata.blocks() * 512;
    assert!(allocated < 1 << 20, "{allocated} bytes are allocated");
    for (offset, piece) in pieces {
        let mut bytes = vec![0; piece.len()];
        copy.read_exact_at(&mut bytes, offset).unwrap();
        assert!(bytes == piece, "at {offset}");
    }
    let mut around = [1; 8];
    copy.read_exact_at(&mut around, LEN / 2 - 4).unwrap();
    assert_eq!(&around, b"\0middle\0");
}

#[test]
fn a_file_that_is_one_hole_is_copied_as_one_hole() {
    for len in [1, 512 << 20, 1 << 40] {
        let place = Place::new();
        let (src, dst) = (place.source(b""), place.copy());
        fs::File::options().write(true).open(&src).unwrap().set_len(len).unwrap();
        let copied = finish(&mut copying(&src, &dst));
        assert!(copied.status.success(), "{copied:?}");
        let copy = fs::metadata(&dst).unwrap();
        assert_eq!((copy.len(), copy.blocks()), (len, 0));
    }
}

#[test]
fn a_pipe_a_socket_or_a_device_is_not_replaced() {
    let place = Place::new();
    let src = place.source(b"data");
    let there = |name: &str| place.copies.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, there("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(there("socket")).unwrap();
    let mut names = vec!["pipe", "socket"];
    let null = rustix::fs::makedev(1, 3);
    let device = FileType::CharacterDevice;
    match rustix::fs::mknodat(rustix::fs::CWD, there("null"), device, Mode::WUSR, null) {
        Ok(()) => names.push("null"),
        Err(error) => println!("left out: device nodes cannot be made here: {error}"),
    }
    for name in names {
        // Nor is a link to one: `/dev/stdout` is such a link.
        let link = there("link");
        symlink(there(name), &link).unwrap();
        for dst in [&there(name), &link] {
            let before = fs::symlink_metadata(dst).unwrap().ino();
            assert_refused(&finish(copying(&src, dst).arg("--force")), "is not a regular file");
            assert_eq!(fs::symlink_metadata(dst).unwrap().ino(), before, "{name} was replaced");
        }
        fs::remove_file(&link).unwrap();
    }
}
