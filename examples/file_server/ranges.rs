//! Byte ranges: which parts of a file a `Range` header asks for (RFC 9110, section 14).

use std::ops::Range;

/// A header with more ranges than this is ignored.
const MAX_RANGES: usize = 32;

/// What a `Range` header selects of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The whole file: the header is malformed, of another unit, or asks for more bytes than there
    /// are.
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
        Some(parts) if parts.iter().map(|part| part.end - part.start).sum::<u64>() > len => {
            Selection::Whole
        }
        Some(parts) => Selection::Parts(parts),
    }
}

/// Returns the parts within the file, or `None` if the value is to be ignored.
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
        let part = parse_one(spec, len)?;
        if part.start < part.end {
            parts.push(part);
        }
    }
    (count > 0).then_some(parts)
}

/// One `first-last`, `first-` or `-suffix`; an empty range if the file has nothing of it.
fn parse_one(spec: &str, len: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?.min(len);
        return Some(len - suffix..len);
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
    Some(first.min(end)..end)
}

/// Parses a decimal number; one that does not fit in 64 bits is `u64::MAX`.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}
