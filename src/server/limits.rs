//! The limits of a server: connections at once, and accepts per second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::net::SocketAddress;
use crate::os::lock::lock;
use crate::time::Instant;

/// The limits that the connections of all workers count against.
pub(super) struct Limits {
    max: usize,
    max_per_peer: usize,
    active: AtomicUsize,
    /// A worker waits for a connection to end.
    crowded: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// Used only if there is a limit per peer.
    peers: Mutex<HashMap<IpAddr, usize>>,
}

impl Limits {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Limits {
            max,
            max_per_peer,
            active: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            waiting: Mutex::default(),
            peers: Mutex::default(),
        })
    }

    fn try_enter(&self) -> bool {
        let enter = |active| (active < self.max).then_some(active + 1);
        self.active.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_ok()
    }

    /// Waits until one more connection may be served. Cancel-safe.
    pub(super) async fn enter(self: &Arc<Self>) -> ConnectionPermit {
        std::future::poll_fn(|cx| {
            if self.try_enter() {
                return Poll::Ready(());
            }
            let mut waiting = lock(&self.waiting);
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            // Stored before the second try: `leave` reads it after it has made room.
            self.crowded.store(true, Ordering::SeqCst);
            match self.try_enter() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        ConnectionPermit { limits: self.clone(), peer: None }
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
        if self.crowded.load(Ordering::SeqCst) {
            let mut waiting = lock(&self.waiting);
            self.crowded.store(false, Ordering::SeqCst);
            let wakers = std::mem::take(&mut *waiting);
            drop(waiting);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Permission to serve one connection; given back when dropped.
pub(super) struct ConnectionPermit {
    limits: Arc<Limits>,
    /// If there is a limit per peer; boxed, as few servers have one.
    peer: Option<Box<IpAddr>>,
}

impl ConnectionPermit {
    /// Counts the connection against its peer's limit; returns `false` if the limit is reached.
    pub(super) fn admit(&mut self, peer: &SocketAddress) -> bool {
        if self.limits.max_per_peer == usize::MAX {
            return true;
        }
        // Peers on Unix sockets have no address that distinguishes them.
        let Some(ip) = peer.as_inet().map(|inet| inet.ip().to_canonical()) else { return true };
        let mut peers = lock(&self.limits.peers);
        let count = peers.entry(ip).or_default();
        if *count >= self.limits.max_per_peer {
            return false;
        }
        *count += 1;
        self.peer = Some(Box::new(ip));
        true
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(ip) = self.peer.as_deref() {
            let mut peers = lock(&self.limits.peers);
            if let Some(count) = peers.get_mut(ip) {
                *count -= 1;
                if *count == 0 {
                    peers.remove(ip);
                }
            }
        }
        self.limits.leave();
    }
}

/// Spaces the accepts of one worker out; lets a short burst through, also at the start.
pub(super) struct AcceptPace {
    interval: Duration,
    /// How far accepts were ahead of an even pace, at the time `since`.
    ahead: Duration,
    since: Instant,
}

impl AcceptPace {
    /// By how many intervals accepts may be ahead of an even pace.
    const BURST: u32 = 16;
    /// The longest interval: with bursts still far from the end of what an `Instant` holds.
    const MAX_INTERVAL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

    /// Limits accepts to `per_second`, which is greater than zero.
    pub(super) fn new(per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
        let interval = interval.min(Self::MAX_INTERVAL);
        AcceptPace { interval, ahead: Duration::ZERO, since: Instant::now() }
    }

    /// Counts an accept; returns the time to wait for before it, `None` if it may come now.
    pub(super) fn wait_until(&mut self, now: Instant) -> Option<Instant> {
        self.ahead = self.ahead.saturating_sub(now.duration_since(self.since));
        self.ahead = self.ahead.saturating_add(self.interval);
        self.since = self.since.max(now);
        let wait = self.ahead.saturating_sub(self.interval * Self::BURST);
        if wait.is_zero() {
            return None;
        }
        Some(now.saturating_add(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_a_burst_through_and_then_spaces() {
        let mut pace = AcceptPace::new(100.0);
        let start = pace.since;
        let at_once = (0..100).take_while(|_| pace.wait_until(start).is_none()).count();
        assert_eq!(at_once, 16);
        let later = pace.wait_until(start).unwrap() - start;
        assert_eq!(later, Duration::from_millis(20));
        // Idle time adds no further burst.
        let after = start + Duration::from_secs(3600);
        assert_eq!((0..100).take_while(|_| pace.wait_until(after).is_none()).count(), 16);
    }

    #[test]
    fn an_absurd_rate_starts_with_its_burst_and_never_overflows() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for rate in [f64::MIN_POSITIVE, 5e-324, 1e-300, 1e-19, 1e-12] {
            let mut pace = AcceptPace::new(rate);
            let now = pace.since;
            let at_once = (0..40).take_while(|_| pace.wait_until(now).is_none()).count();
            assert_eq!(at_once, 16, "{rate}");
            // Also if the waits are ignored for long.
            for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
                assert!(pace.wait_until(now).is_some_and(|wait| wait > now + year), "{rate}");
            }
        }
        let mut unlimited = AcceptPace::new(f64::INFINITY);
        let now = unlimited.since;
        assert!((0..100).all(|_| unlimited.wait_until(now).is_none()));
    }

    #[test]
    fn peers_are_counted_and_forgotten() {
        let limits = Limits::new(10, 2);
        let permit = || ConnectionPermit { limits: limits.clone(), peer: None };
        limits.active.store(3, Ordering::Relaxed);
        let (one, other) =
            (SocketAddress::v4([10, 0, 0, 1], 1), SocketAddress::v4([10, 0, 0, 2], 1));
        let mut permits = [permit(), permit(), permit()];
        assert!(permits[0].admit(&one) && permits[1].admit(&one) && !permits[2].admit(&one));
        assert!(permits[2].admit(&other));
        drop(permits);
        assert!(lock(&limits.peers).is_empty());
        assert_eq!(limits.active.load(Ordering::Relaxed), 0);
    }
}
