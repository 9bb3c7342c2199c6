//! Conditional requests: whether the client's copy is still current (RFC 9110, section 13).

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use super::request::Request;
use super::response::now;

/// Identifies one version of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators {
    /// `None` while the file could change once more without a change of its tag.
    pub(crate) etag: Option<ETag>,
    /// To the second, as dates in HTTP are.
    pub(crate) modified: SystemTime,
}

/// An entity tag: changes whenever the file is written to or replaced, so it is a strong one.
///
/// Programs that copy or restore files set the modification time as they like. So the tag has the
/// time of the last status change too, which only the kernel sets, at each write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ETag {
    size: u64,
    mtime: i128,
    ctime: i128,
    inode: u64,
}

/// The time that the kernel would note for a change of a file now. It proceeds in steps of a clock
/// tick, some milliseconds, so two changes may have the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileTime(i128);

impl FileTime {
    pub(crate) fn now() -> Self {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
        #[allow(clippy::useless_conversion)] // `tv_nsec` has 32 bits on some processors.
        FileTime(time(tv_sec, tv_nsec.into()))
    }

    /// How long such a time lasts.
    pub(crate) fn tick() -> Duration {
        let tick = clock_getres(ClockId::RealtimeCoarse);
        Duration::try_from(tick).unwrap_or(Duration::from_millis(10))
    }
}

fn time(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// The outcome of a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole file, or the ranges asked for.
    Send,
    /// The client's copy is current: 304.
    NotModified,
    /// The file is not the one that the client wants: 412.
    Failed,
}

impl Validators {
    /// The validators of a file. `before` is a time from before its metadata was read. If the last
    /// change is older than that, every later change gets another time.
    pub(crate) fn of(metadata: &Metadata, before: FileTime) -> Self {
        let ctime = time(metadata.ctime(), metadata.ctime_nsec());
        let etag = ETag {
            size: metadata.len(),
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime,
            inode: metadata.ino(),
        };
        // Times before 1970 are sent as 1970, and times to come, among them those after the year
        // 9999, which HTTP has no dates for, as now (RFC 9110, section 8.8.2.1).
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        Validators {
            etag: (ctime < before.0).then_some(etag),
            modified: UNIX_EPOCH + Duration::from_secs(seconds.min(now())),
        }
    }

    /// Evaluates the preconditions in the order that the standard gives.
    pub(crate) fn check(&self, request: &Request<'_>) -> Verdict {
        if request.has("if-match") {
            if !self.listed(request, "if-match", Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if let Some(date) = request.date("if-unmodified-since")
            && self.modified > date
        {
            return Verdict::Failed;
        }
        if request.has("if-none-match") {
            if self.listed(request, "if-none-match", Comparison::Weak) {
                return Verdict::NotModified;
            }
        } else if let Some(date) = request.date("if-modified-since")
            && self.modified <= date
        {
            return Verdict::NotModified;
        }
        Verdict::Send
    }

    /// Whether a range may be taken from the file, given the request's `If-Range`.
    pub(crate) fn range_applies(&self, request: &Request<'_>, now: SystemTime) -> bool {
        match request.single("if-range") {
            None => !request.has("if-range"),
            Some(value) if value.starts_with(b"\"") => self.matches(value, Comparison::Strong),
            // A date tells states apart only once its second is over.
            Some(_) => request
                .date("if-range")
                .is_some_and(|date| date == self.modified && date + Duration::from_secs(1) <= now),
        }
    }

    fn listed(&self, request: &Request<'_>, name: &str, comparison: Comparison) -> bool {
        request.all(name).any(|list| {
            list.trim_ascii() == b"*" || tags(list).any(|tag| self.matches(tag, comparison))
        })
    }

    fn matches(&self, tag: &[u8], comparison: Comparison) -> bool {
        self.etag.is_some_and(|etag| etag.matches(tag, comparison))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// Weak tags are as good as strong ones.
    Weak,
    /// Weak tags are never equal to anything.
    Strong,
}

/// Upper bound of a tag's length in bytes: four numbers in hexadecimal, three hyphens, two quotes.
const TAG_LEN: usize = 16 + 32 + 32 + 16 + 5;

impl ETag {
    fn matches(&self, tag: &[u8], comparison: Comparison) -> bool {
        let tag = match tag.strip_prefix(b"W/") {
            Some(tag) if comparison == Comparison::Weak => tag,
            _ => tag,
        };
        let mut buffer = [0; TAG_LEN];
        let mut rest = &mut buffer[..];
        if std::io::Write::write_fmt(&mut rest, format_args!("{self}")).is_err() {
            return false;
        }
        let unused = rest.len();
        tag == &buffer[..TAG_LEN - unused]
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ETag { size, mtime, ctime, inode } = self;
        write!(f, "\"{size:x}-{mtime:x}-{ctime:x}-{inode:x}\"")
    }
}

/// Returns the tags of a list; a tag may contain commas within its quotes.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = &rest[start..];
        let open = rest.iter().position(|&byte| byte == b'"')?;
        let close = open + 1 + rest[open + 1..].iter().position(|&byte| byte == b'"')?;
        let tag;
        (tag, rest) = rest.split_at(close + 1);
        Some(tag)
    })
}
