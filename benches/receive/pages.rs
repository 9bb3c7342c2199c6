//! Memory that the kernel receives into, in ordinary or in huge pages.

// # Why this file has `unsafe`
// It maps memory, and hands out parts of it.

use std::io;
use std::ptr::NonNull;

const HUGE_PAGE: usize = 2 << 20;

/// A mapping of zeroes that has been written to, so that no page fault is left for later.
pub(crate) struct Pages {
    mapping: NonNull<u8>,
    mapped: usize,
    /// An address in the mapping, at a huge page's boundary.
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Maps `len` bytes; with `huge`, in reserved huge pages if the machine has enough of them,
    /// else in transparent ones as far as the kernel provides them.
    pub(crate) fn new(len: usize, huge: bool) -> Self {
        let len = len.next_multiple_of(HUGE_PAGE);
        let pages = if huge && let Ok(start) = map(len, libc::MAP_HUGETLB) {
            Pages { mapping: start, mapped: len, start, len }
        } else {
            Self::advised(len, if huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE })
        };
        // SAFETY: `len` bytes from there are mapped and writable, and not in use yet.
        unsafe { pages.start.write_bytes(0, len) };
        pages
    }

    fn advised(len: usize, advice: i32) -> Self {
        let mapped = len + HUGE_PAGE;
        let mapping = map(mapped, 0).expect("memory for the buffers");
        // SAFETY: the mapping is longer than `len` by a huge page, so this stays inside.
        let start = unsafe { mapping.add(mapping.as_ptr().align_offset(HUGE_PAGE)) };
        // A kernel without transparent huge pages refuses; it has ordinary ones anyway.
        // SAFETY: the range is inside the mapping; the advice leaves its contents alone.
        unsafe { libc::madvise(start.as_ptr().cast(), len, advice) };
        Pages { mapping, mapped, start, len }
    }

    /// Returns the address of the `len` bytes from `offset`.
    pub(crate) fn part(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset + len <= self.len);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // After a panic operations may be in flight: the kernel may still write here.
        if !std::thread::panicking() {
            unmap(self.mapping, self.mapped);
        }
    }
}

fn map(len: usize, flags: i32) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(start.cast()).expect("the kernel chooses no null address"))
}

fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: both callers pass a whole mapping of their own that they don't use again.
    unsafe { libc::munmap(start.as_ptr().cast(), len) };
}

/// Returns which huge pages this host grants, found out by a mapping.
pub(crate) fn kind_of_huge_pages() -> &'static str {
    let before = huge_kilobytes();
    let _pages = Pages::new(HUGE_PAGE, true);
    let after = huge_kilobytes();
    if after.1 > before.1 {
        "reserved (MAP_HUGETLB)"
    } else if after.0 > before.0 {
        "transparent (MADV_HUGEPAGE)"
    } else {
        "none, so that the ways with huge pages have ordinary ones"
    }
}

/// Returns this process's transparent and reserved huge pages in KiB, see `proc_pid_smaps(5)`.
fn huge_kilobytes() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (field("AnonHugePages:"), field("Private_Hugetlb:"))
}
