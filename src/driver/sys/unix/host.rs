//! What this host is like, looked at once.

use std::cell::RefCell;
use std::fs;
use std::sync::OnceLock;

/// File systems whose files nobody but this kernel changes, and which ask nobody for metadata.
const LOCAL: [&str; 12] = [
    "ext2", "ext3", "ext4", "xfs", "f2fs", "vfat", "exfat", "ntfs3", "erofs", "squashfs",
    "iso9660", "jfs",
];

/// Whether `preadv2(2)` with `RWF_NOWAIT` tells the end of a file only where it is: Linux 5.9 and 5.10
/// give 0 also where the rest is not in memory (see its man page, BUGS).
pub(super) fn tells_what_is_cached() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        !release.is_empty() && !is_mistaken(&release)
    })
}

fn is_mistaken(release: &str) -> bool {
    let mut numbers = release.split(|mark: char| !mark.is_ascii_digit());
    matches!((numbers.next(), numbers.next()), (Some("5"), Some("9" | "10")))
}

/// Whether a device has one of the [`LOCAL`] file systems. Asking one for its kind may wait for whoever
/// serves it, so the list of mounts is read, once for each device.
pub(super) fn is_local(major: u32, minor: u32) -> bool {
    thread_local! {
        static KNOWN: RefCell<Vec<((u32, u32), bool)>> = const { RefCell::new(Vec::new()) };
    }
    // File systems without a device of their own share this number.
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
    fn the_kernels_that_are_mistaken() {
        for release in ["5.9.0", "5.10.223-generic", "5.10"] {
            assert!(is_mistaken(release), "{release}");
        }
        for release in ["5.1.0", "5.11.0", "5.15.9", "6.10.5", "6.18.44-fc", "15.10.1", ""] {
            assert!(!is_mistaken(release), "{release}");
        }
    }

    #[test]
    fn what_a_device_has_is_in_the_list_of_mounts() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
                      30 22 254:16 / /data rw - fuseblk /dev/vdb rw\n\
                      31 22 0:27 / /tmp rw - tmpfs tmpfs rw\n";
        assert!(is_local_in(mounts, 254, 1));
        assert!(!is_local_in(mounts, 254, 16) && !is_local_in(mounts, 254, 2));
        assert!(!is_local_in(mounts, 254, 11) && !is_local_in("", 254, 1));
    }
}
