//! Names instead of addresses.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use super::{SocketAddress, TcpStream};
use crate::blocking::spawn_blocking;
use crate::sync::local::Notify;
use crate::task::{RaceOutput, race, race_all};
use crate::time::sleep;

/// Looks up `host:port` without blocking the loop: the system's resolver is asked by a thread of the
/// [process's pool](crate::spawn_blocking). An IP address needs no resolver.
///
/// # Errors
/// What the resolver reports; `NotFound` when it finds no address, `InvalidInput` when the text is not
/// of that form.
///
/// # Examples
/// ```
/// use corio::net::resolve;
/// # let mut context = corio::IoContext::new(8)?;
/// # context.block_on(async {
/// assert_eq!(resolve("127.0.0.1:80").await?[0].to_string(), "127.0.0.1:80");
/// assert!(!resolve("localhost:80").await?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn resolve(name: impl Into<String>) -> io::Result<Vec<SocketAddress>> {
    let name = name.into();
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let found = spawn_blocking(move || name.to_socket_addrs().map(|found| (name, found))).await?;
    let (name, found) = found?;
    let found: Vec<_> = found.map(SocketAddress::from).collect();
    if found.is_empty() {
        let text = format!("{name} has no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(found)
}

/// How long an attempt has before the next one starts beside it; RFC 8305, section 5, recommends this.
const HEAD_START: Duration = Duration::from_millis(250);

/// The order in which addresses are tried: the families in turn, beginning with the resolver's first.
/// RFC 8305, section 4.
fn in_turn(addresses: &[SocketAddress]) -> Vec<SocketAddress> {
    let is_v6 = |address: &&SocketAddress| address.as_inet().is_some_and(|inet| inet.is_ipv6());
    let first = addresses.first().is_some_and(|first| is_v6(&first));
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| is_v6(address) == first);
    (one, other) = (one.into_iter().rev().collect(), other.into_iter().rev().collect());
    let mut order = Vec::new();
    while !one.is_empty() || !other.is_empty() {
        order.extend(one.pop().cloned());
        order.extend(other.pop().cloned());
    }
    order
}

/// Attempts that are made side by side.
struct Attempts {
    /// How many may have begun.
    begun: Cell<usize>,
    /// Told of each that may begin.
    more: Notify,
    /// Told of each that fails.
    failure: Notify,
    failures: RefCell<Vec<(SocketAddress, io::Error)>>,
    count: usize,
}

impl Attempts {
    /// Lets one more begin every `HEAD_START`, or as soon as one has failed. Never ends.
    async fn pace(&self) {
        loop {
            self.begun.set(self.begun.get() + 1);
            self.more.notify_all();
            race(self.failure.notified(), sleep(HEAD_START)).await;
        }
    }

    /// Ends with a connection; or, the last one that fails, with everybody's errors.
    async fn make(&self, index: usize, address: SocketAddress) -> io::Result<TcpStream> {
        while self.begun.get() <= index {
            self.more.notified().await;
        }
        let error = match TcpStream::connect(&address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        self.failures.borrow_mut().push((address, error));
        if self.failures.borrow().len() < self.count {
            self.failure.notify_one();
            std::future::pending::<()>().await;
        }
        Err(self.summary())
    }

    fn summary(&self) -> io::Error {
        let failures = self.failures.borrow();
        let texts: Vec<_> =
            failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
        let kind = failures.first().map_or(io::ErrorKind::Other, |(_, error)| error.kind());
        io::Error::new(kind, texts.join("; "))
    }
}

impl TcpStream {
    /// Looks `host:port` up and connects to it, by whichever of its addresses answers first.
    ///
    /// # Errors
    /// As for [`resolve`], and for [`connect_any`](Self::connect_any).
    pub async fn connect_host(name: impl Into<String>) -> io::Result<TcpStream> {
        Self::connect_any(&resolve(name).await?).await
    }

    /// Connects to the first of several addresses that answers ("happy eyeballs",
    /// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)): IPv6 and IPv4 in turn, each with a head start
    /// of 250 ms before the next one is tried beside it, or until it fails. What has not won is cancelled.
    ///
    /// # Errors
    /// When all have failed: the kind of the first failure, and the text of all of them;
    /// `InvalidInput` if there are none.
    ///
    /// # Examples
    /// ```
    /// use corio::net::{SocketAddress, TcpListener, TcpStream};
    /// # let mut context = corio::IoContext::new(8)?;
    /// # context.block_on(async {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// // Nobody listens on port 1.
    /// let addresses = [SocketAddress::v4([127, 0, 0, 1], 1), listener.local_addr()?];
    /// let stream = TcpStream::connect_any(&addresses).await?;
    /// assert_eq!(stream.peer_addr()?, addresses[1]);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn connect_any(addresses: &[SocketAddress]) -> io::Result<TcpStream> {
        if addresses.is_empty() {
            let text = "no address to connect to";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let attempts = Attempts {
            begun: Cell::new(0),
            more: Notify::new(),
            failure: Notify::new(),
            failures: RefCell::default(),
            count: addresses.len(),
        };
        let all = in_turn(addresses).into_iter().enumerate();
        let all = all.map(|(index, address)| attempts.make(index, address));
        match race(race_all(all), attempts.pace()).await {
            // Several may have got through in the same turn.
            RaceOutput::First((first, mut results), _) => {
                let connected = |result: &Option<io::Result<_>>| matches!(result, Some(Ok(_)));
                let index = results.iter().position(connected).unwrap_or(first);
                results.swap_remove(index).expect("a future that has ended gave something")
            }
            RaceOutput::Second(..) => unreachable!("the pace never ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let v4 = |n| SocketAddress::v4([10, 0, 0, n], 80);
        let v6 = |n| SocketAddress::v6([0, 0, 0, 0, 0, 0, 0, n], 80);
        let order = in_turn(&[v6(1), v6(2), v6(3), v4(1), v4(2)]);
        assert_eq!(order, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(in_turn(&[v4(1), v6(1), v6(2)]), [v4(1), v6(1), v6(2)]);
        assert_eq!(in_turn(&[v4(1), v4(2)]), [v4(1), v4(2)]);
        assert!(in_turn(&[]).is_empty());
    }
}
