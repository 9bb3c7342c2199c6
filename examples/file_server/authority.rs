//! Hosts: the value of the `Host` field, and the authority of a target in absolute form.

use std::net::Ipv6Addr;

/// Whether the text is a host that may be empty, and perhaps a port (RFC 9110, section 7.2).
///
/// A comma is refused, although a name may have one: that is two `Host` fields that were joined.
pub(crate) fn is_host_and_port(text: &[u8]) -> bool {
    let (host, rest) = match text.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|&byte| byte == b']') else { return false };
            if !is_literal(&literal[..end]) {
                return false;
            }
            (&b""[..], &literal[end + 1..])
        }
        None => text.split_at(text.iter().position(|&byte| byte == b':').unwrap_or(text.len())),
    };
    let is_port = match rest.split_first() {
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
        None => true,
    };
    is_port && is_name(host)
}

/// Whether the text is an authority as `http` URIs need it: with a host, and without a user.
pub(crate) fn is_authority(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && is_host_and_port(text.as_bytes())
}

/// An address in brackets: of IPv6, or of a version yet to come.
fn is_literal(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Some(future) = text.strip_prefix(['v', 'V']) else {
        return text.parse::<Ipv6Addr>().is_ok();
    };
    future.split_once('.').is_some_and(|(version, address)| {
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(|byte| byte == b':' || is_plain(byte))
    })
}

fn is_name(text: &[u8]) -> bool {
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => is_plain(byte),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// Whether the byte may stand in a name as it is: RFC 3986's `unreserved` and `sub-delims`, but for
/// the comma.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}
