//! The addresses on the command line.

use std::net::Ipv6Addr;
use std::str::FromStr;

use super::framing::number;

/// One address to fetch from.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As given on the command line.
    pub(crate) text: String,
    /// Value of the `Host` header.
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it contains spaces or characters that are not ASCII".into());
        }
        let scheme = text.split("://").next().filter(|scheme| {
            scheme.len() < text.len() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let address = match scheme {
            None => text,
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => &text["http://".len()..],
            Some(scheme) => return Err(format!("only http is supported, not {scheme}")),
        };
        // The fragment is not sent to the server.
        let address = address.split('#').next().unwrap_or_default();
        let (authority, path) = match address.find(['/', '?']) {
            Some(at) => address.split_at(at),
            None => (address, "/"),
        };
        let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
        let (host, port) = split_port(authority)?;
        // As in RFC 3986, without the needless colon before an empty port.
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        let (text, authority, host) = (text.into(), authority.into(), host.into());
        Ok(Target { text, authority, host, port, path })
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`. An empty port means the default.
fn split_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the closing bracket is missing")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("{host:?} is not an IPv6 address"));
            }
            (host, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            // "reg-name" of RFC 3986, section 3.2.2.
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            if host.is_empty() || !host.bytes().all(allowed) {
                return Err("the host is missing or malformed".into());
            }
            (host, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, 80)),
        Some("") => Ok((host, 80)),
        Some(port) => match number(port.as_bytes()) {
            Some(0) | None => Err(format!("{port:?} is not a port number")),
            Some(port) => Ok((host, port)),
        },
        None => Err("only a port may follow the bracket".into()),
    }
}
