//! A slow disk: a control group in which reads are limited, and files that are not in memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What reads of a server are limited to.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    BytesPerSecond(u64),
    ReadsPerSecond(u64),
}

/// A control group whose processes read slowly. It is removed when this is dropped.
pub(crate) struct SlowGroup {
    path: PathBuf,
}

impl SlowGroup {
    /// Creates a group that is limited on the device of `file`. Needs the privileges of root.
    pub(crate) fn new(file: &Path, limit: Limit) -> io::Result<Self> {
        let device = whole_disk(fs::metadata(file)?.st_dev())?;
        let name = format!("corio-cold-{}", std::process::id());
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        if unified.split_whitespace().any(|name| name == "io") {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+io")?;
            let group = SlowGroup::at(root.join(name))?;
            let line = match limit {
                Limit::BytesPerSecond(most) => format!("{device} rbps={most}"),
                Limit::ReadsPerSecond(most) => format!("{device} riops={most}"),
            };
            fs::write(group.path.join("io.max"), line)?;
            return Ok(group);
        }
        let group = SlowGroup::at(Path::new("/sys/fs/cgroup/blkio").join(name))?;
        let (file, most) = match limit {
            Limit::BytesPerSecond(most) => ("blkio.throttle.read_bps_device", most),
            Limit::ReadsPerSecond(most) => ("blkio.throttle.read_iops_device", most),
        };
        fs::write(group.path.join(file), format!("{device} {most}"))?;
        Ok(group)
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        Ok(SlowGroup { path })
    }

    /// Returns a command that runs `program` in this group.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.path.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for SlowGroup {
    fn drop(&mut self) {
        // It is busy until the kernel has finished with its last process.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("{} is left behind", self.path.display());
    }
}

/// Returns `MAJOR:MINOR` of the disk that a file system's device is, or is a partition of.
fn whole_disk(device: u64) -> io::Result<String> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let place = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))?;
    let disk = if place.join("partition").exists() { place.parent() } else { None };
    let number = fs::read_to_string(disk.unwrap_or(&place).join("dev"))?;
    Ok(number.trim().to_owned())
}

/// Writes a file of `len` bytes.
pub(crate) fn write(path: &Path, len: usize) -> io::Result<()> {
    let bytes: Vec<u8> = (0..len.min(1 << 20)).map(|byte| (byte * 31 + 7) as u8).collect();
    let mut file = File::create(path)?;
    let mut left = len;
    while left > 0 {
        let part = left.min(bytes.len());
        file.write_all(&bytes[..part])?;
        left -= part;
    }
    file.sync_all()
}

/// Removes a file's contents from memory.
pub(crate) fn evict(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    // SAFETY: passes no memory.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A file system in a file, which is read past the page cache (`losetup --direct-io`). So reads of
/// directories, which the limit of a group does not cover, become reads of a file, which it does.
/// Once mounted again, nothing of it is in memory.
pub(crate) struct Image {
    image: PathBuf,
    at: PathBuf,
    /// The loop device, while it is mounted.
    device: Option<String>,
}

impl Image {
    /// Makes a file system, to be mounted at `at`, with directories `0`, `1`, … that have a
    /// small file each.
    pub(crate) fn new(image: &Path, at: &Path, count: usize) -> io::Result<Self> {
        File::create(image)?.set_len(256 << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(image))?;
        fs::create_dir(at)?;
        let mut image = Image { image: image.to_owned(), at: at.to_owned(), device: None };
        image.mount()?;
        for number in 0..count {
            let dir = at.join(number.to_string());
            fs::create_dir(&dir)?;
            fs::write(dir.join("file"), "a small file")?;
        }
        Ok(image)
    }

    /// Mounts it, without anything of it in memory.
    pub(crate) fn mount(&mut self) -> io::Result<()> {
        self.unmount()?;
        let mut losetup = Command::new("losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(&self.image);
        let device = run(&mut losetup)?.trim().to_owned();
        let mounted = run(Command::new("mount").arg(&device).arg(&self.at));
        if mounted.is_err() {
            run(Command::new("losetup").args(["--detach", &device]))?;
        }
        mounted?;
        self.device = Some(device);
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        if let Some(device) = self.device.take() {
            run(Command::new("umount").arg(&self.at))?;
            run(Command::new("losetup").args(["--detach", &device]))?;
        }
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}

/// Runs a program, and returns what it printed.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{:?}: {}", command.get_program(), output.status)))
}
