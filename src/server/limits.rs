//! How much a server takes on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::net::SocketAddress;
use crate::time::Instant;

/// What all workers' connections count against.
pub(super) struct Limits {
    most: usize,
    most_per_peer: usize,
    active: AtomicUsize,
    /// Somebody waits for a connection to end.
    crowded: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// Used only if there is a limit per peer.
    peers: Mutex<HashMap<IpAddr, usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Limits {
            most,
            most_per_peer,
            active: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            waiting: Mutex::default(),
            peers: Mutex::default(),
        })
    }

    fn try_enter(&self) -> bool {
        let enter = |active| (active < self.most).then_some(active + 1);
        self.active.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_ok()
    }

    /// Waits until one more connection may be served. Cancel-safe.
    pub(super) async fn enter(self: &Arc<Self>) -> Slot {
        std::future::poll_fn(|cx| {
            if self.try_enter() {
                return Poll::Ready(());
            }
            let mut waiting = lock(&self.waiting);
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            // Said before the last look, as `leave` looks after it has left.
            self.crowded.store(true, Ordering::SeqCst);
            match self.try_enter() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        Slot { limits: self.clone(), peer: None }
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

/// One connection's place; given back when dropped.
pub(super) struct Slot {
    limits: Arc<Limits>,
    peer: Option<IpAddr>,
}

impl Slot {
    /// Counts the connection against its peer's limit; `false`: that is reached.
    pub(super) fn admit(&mut self, peer: &SocketAddress) -> bool {
        if self.limits.most_per_peer == usize::MAX {
            return true;
        }
        // Those without an address, on Unix sockets, are not told apart.
        let Some(ip) = peer.as_inet().map(|inet| inet.ip().to_canonical()) else { return true };
        let mut peers = lock(&self.limits.peers);
        let count = peers.entry(ip).or_default();
        if *count >= self.limits.most_per_peer {
            return false;
        }
        *count += 1;
        self.peer = Some(ip);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(ip) = self.peer {
            let mut peers = lock(&self.limits.peers);
            if let Some(count) = peers.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    peers.remove(&ip);
                }
            }
        }
        self.limits.leave();
    }
}

/// Spaces accepts out. A little burst is let through.
pub(super) struct Pace {
    each: Duration,
    /// When the next one is due, if they came as fast as they may.
    due: Instant,
}

impl Pace {
    /// How far behind its due time the next may be.
    const BURST: u32 = 16;

    /// At most `per_second` by each.
    pub(super) fn new(per_second: f64) -> Self {
        let each = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::ZERO);
        Pace { each, due: Instant::now() }
    }

    /// When the next one may come; `None`: now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.each.is_zero() {
            return None;
        }
        let burst = self.each.saturating_mul(Self::BURST);
        let earliest = now.checked_sub(burst).unwrap_or(now);
        self.due = self.due.max(earliest) + self.each;
        (self.due > now).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_a_burst_through_and_then_spaces() {
        let mut pace = Pace::new(100.0);
        let start = Instant::now() + Duration::from_secs(10);
        let at_once = (0..100).take_while(|_| pace.next(start).is_none()).count();
        assert_eq!(at_once, 16);
        let later = pace.next(start).unwrap() - start;
        assert_eq!(later, Duration::from_millis(20));
        // An idle time does not add up.
        let after = start + Duration::from_secs(3600);
        assert_eq!((0..100).take_while(|_| pace.next(after).is_none()).count(), 16);
    }

    #[test]
    fn peers_are_counted_and_forgotten() {
        let limits = Limits::new(10, 2);
        let slot = || Slot { limits: limits.clone(), peer: None };
        limits.active.store(3, Ordering::Relaxed);
        let (one, other) =
            (SocketAddress::v4([10, 0, 0, 1], 1), SocketAddress::v4([10, 0, 0, 2], 1));
        let mut slots = [slot(), slot(), slot()];
        assert!(slots[0].admit(&one) && slots[1].admit(&one) && !slots[2].admit(&one));
        assert!(slots[2].admit(&other));
        drop(slots);
        assert!(lock(&limits.peers).is_empty());
        assert_eq!(limits.active.load(Ordering::Relaxed), 0);
    }
}
