//! Properties of this host, each determined once.

use std::cell::RefCell;
use std::fs;
use std::sync::OnceLock;

/// File systems whose files only this kernel changes, so that metadata in memory is up to date.
const LOCAL: [&str; 12] = [
    "ext2", "ext3", "ext4", "xfs", "f2fs", "vfat", "exfat", "ntfs3", "erofs", "squashfs",
    "iso9660", "jfs",
];

/// Returns `true` if `preadv2(2)` with `RWF_NOWAIT` returns 0 only at the end of a file: Linux 5.9
/// and 5.10 return it also where the rest is not in memory (see its man page, BUGS).
pub(super) fn has_reliable_nowait() -> bool {
    static RELIABLE: OnceLock<bool> = OnceLock::new();
    *RELIABLE.get_or_init(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        !release.is_empty() && !has_nowait_bug(&release)
    })
}

fn has_nowait_bug(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    matches!((numbers.next(), numbers.next()), (Some("5"), Some("9" | "10")))
}

/// Returns `true` if a device has one of the [`LOCAL`] file systems. `statfs(2)` may block on a
/// file system's server, so the list of mounts is read instead, once for each device.
pub(super) fn is_local(major: u32, minor: u32) -> bool {
    thread_local! {
        static KNOWN: RefCell<Vec<((u32, u32), bool)>> = const { RefCell::new(Vec::new()) };
    }
    // File systems without a block device share this number.
    if major == 0 {
        return false;
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, local)) = known.iter().find(|(device, _)| *device == (major, minor)) {
            return *local;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let local = is_local_in(&mounts, major, minor);
        known.push(((major, minor), local));
        local
    })
}

/// `36 35 98:0 /root /mount/point options - ext4 /dev/sda1 options`, see `proc_pid_mountinfo(5)`.
fn is_local_in(mounts: &str, major: u32, minor: u32) -> bool {
    let device = format!("{major}:{minor}");
    let kind = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        (place.split(' ').nth(2) == Some(&device)).then(|| kind.split(' ').next())?
    });
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_5_9_and_5_10_have_the_nowait_bug() {
        for release in ["5.9.0", "5.10.223-generic", "5.10"] {
            assert!(has_nowait_bug(release), "{release}");
        }
        for release in ["5.1.0", "5.11.0", "5.15.9", "6.10.5", "6.18.44-fc", "15.10.1", ""] {
            assert!(!has_nowait_bug(release), "{release}");
        }
    }

    #[test]
    fn the_file_system_of_a_device_is_in_the_list_of_mounts() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      30 22 254:16 / /data rw - fuseblk /dev/vdb rw\n\
                      31 22 0:27 / /tmp rw - tmpfs tmpfs rw\n";
        assert!(is_local_in(mounts, 254, 1));
        assert!(!is_local_in(mounts, 254, 16) && !is_local_in(mounts, 254, 2));
        assert!(!is_local_in(mounts, 254, 11) && !is_local_in("", 254, 1));
    }
}
