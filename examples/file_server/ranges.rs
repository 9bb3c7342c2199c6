//! Byte ranges: which parts of a file a `Range` header asks for (RFC 9110, section 14).

use std::ops::Range;

/// A header with more ranges than this is ignored.
const MAX_RANGES: usize = 32;

/// What a `Range` header selects of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The whole file: the header is malformed, of another unit, asks for more bytes than there
    /// are, or for the end of an empty file.
    Whole,
    /// These parts, none of them empty, in the order asked for.
    Parts(Vec<Range<u64>>),
    /// Well-formed, but outside of the file.
    Unsatisfiable,
}

/// Applies a `Range` header's value to a file of `len` bytes.
pub(crate) fn select(value: &[u8], len: u64) -> Selection {
    match parse(value, len) {
        None => Selection::Whole,
        Some(parts) if parts.is_empty() => Selection::Unsatisfiable,
        // Overlapping parts would make a small request cost more than the whole file.
        Some(parts) if !fit(&parts, len) => Selection::Whole,
        // The end of an empty file is the file (RFC 9110, section 14.1.2), and `Content-Range`
        // can't describe it.
        Some(_) if len == 0 => Selection::Whole,
        Some(parts) => Selection::Parts(parts),
    }
}

/// Whether the parts have together at most `len` bytes.
fn fit(parts: &[Range<u64>], len: u64) -> bool {
    let left = parts.iter().try_fold(len, |left, part| left.checked_sub(part.end - part.start));
    left.is_some()
}

/// Returns the satisfiable parts, or `None` if the value is to be ignored.
fn parse(value: &[u8], len: u64) -> Option<Vec<Range<u64>>> {
    let (unit, set) = std::str::from_utf8(value).ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut parts = Vec::new();
    let mut count = 0;
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])) {
        if spec.is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_RANGES {
            return None;
        }
        parts.extend(parse_one(spec, len)?);
    }
    (count > 0).then_some(parts)
}

/// One `first-last`, `first-` or `-suffix`; `Some(None)` if it is unsatisfiable.
fn parse_one(spec: &str, len: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some((suffix > 0).then(|| len - suffix.min(len)..len));
    }
    let first = number(first)?;
    let end = match last {
        "" => len,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(len)
        }
    };
    Some((first < end).then_some(first..end))
}

/// Parses a decimal number; one that does not fit in 64 bits is `u64::MAX`.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}
