//! Socket addresses: what is printed parses back to the same address.

#![no_main]

use corio::net::SocketAddress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(address) = text.parse::<SocketAddress>() {
        let printed = address.to_string();
        assert_eq!(printed.parse::<SocketAddress>().as_ref(), Ok(&address), "{printed}");
    }
    if let Ok(path) = SocketAddress::unix(text) {
        let named = !text.is_empty() && !text.contains('\0');
        assert_eq!(path.as_path().map(|path| path.as_os_str()), named.then_some(text.as_ref()));
        let _ = path.to_string();
    }
});
