//! Connecting to one of several addresses: "happy eyeballs",
//! [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::TcpStream;
use crate::sync::local::Notify;
use crate::task::{RaceOutput, race, race_all};
use crate::time::sleep;

/// The time that an attempt has before the next one starts beside it; RFC 8305, section 5,
/// recommends this.
const HEAD_START: Duration = Duration::from_millis(250);

/// Returns the order in which addresses are tried: the families alternate, beginning with that of
/// the resolver's first address. RFC 8305, section 4.
fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().rev().copied().partition(|address| address.is_ipv6() == first);
    let mut order = Vec::new();
    while !one.is_empty() || !other.is_empty() {
        order.extend(one.pop());
        order.extend(other.pop());
    }
    order
}

/// Attempts to connect that run concurrently.
struct Attempts {
    /// The number of attempts that may have started.
    started: Cell<usize>,
    /// Notified when one more may start.
    more: Notify,
    /// Notified when one has failed.
    failure: Notify,
    failures: RefCell<Vec<(SocketAddr, io::Error)>>,
    count: usize,
}

impl Attempts {
    /// Lets one more attempt start every `HEAD_START`, or as soon as one has failed. Never
    /// completes.
    async fn pace(&self) {
        loop {
            self.started.set(self.started.get() + 1);
            self.more.notify_all();
            race(self.failure.notified(), sleep(HEAD_START)).await;
        }
    }

    /// Completes with a connection, or, as the last attempt that fails, with the errors of all.
    async fn attempt(&self, index: usize, address: SocketAddr) -> io::Result<TcpStream> {
        while self.started.get() <= index {
            self.more.notified().await;
        }
        let error = match TcpStream::connect_to(address).await {
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

/// Connects to the first of several addresses that answers; the other attempts are cancelled.
///
/// # Errors
/// When all have failed: the kind of the first failure, and the text of all of them;
/// `InvalidInput` if there are no addresses.
pub(super) async fn connect_to_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if addresses.is_empty() {
        let text = "no address to connect to: the list is empty";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let attempts = Attempts {
        started: Cell::new(0),
        more: Notify::new(),
        failure: Notify::new(),
        failures: RefCell::default(),
        count: addresses.len(),
    };
    let all = alternate(addresses).into_iter().enumerate();
    let all = all.map(|(index, address)| attempts.attempt(index, address));
    match race(race_all(all), attempts.pace()).await {
        // Several may have connected in the same turn.
        RaceOutput::First((first, mut results), _) => {
            let connected = |result: &Option<io::Result<_>>| matches!(result, Some(Ok(_)));
            let index = results.iter().position(connected).unwrap_or(first);
            results.swap_remove(index).expect("a future that has completed has a result")
        }
        RaceOutput::Second(..) => unreachable!("the pace never completes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let v4 = |n| SocketAddr::from(([10, 0, 0, n], 80));
        let v6 = |n| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, n], 80));
        let order = alternate(&[v6(1), v6(2), v6(3), v4(1), v4(2)]);
        assert_eq!(order, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(alternate(&[v4(1), v6(1), v6(2)]), [v4(1), v6(1), v6(2)]);
        assert_eq!(alternate(&[v4(1), v4(2)]), [v4(1), v4(2)]);
        assert!(alternate(&[]).is_empty());
    }
}
