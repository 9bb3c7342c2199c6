//! A bounded lock-free queue from many producers to one consumer.
//!
//! Each message has a position. A sender claims the next position by moving `tail`, writes its
//! message into the position's slot, and publishes it by the slot's `turn`. The one receiver reads
//! slots in order and moves `head`. After Dmitry Vyukov's [bounded queue], except that the capacity
//! is exact: `head` tells which slots are free.
//!
//! A side that is about to wait sets a flag in the very word that the other side has to change: the
//! receiver in `tail`, senders in `head`. So either the change comes first and the waiting side
//! sees it, or the side that makes the change sees the flag.
//!
//! [bounded queue]: https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue

// # Why this file has `unsafe`
// A slot is written and read through an `UnsafeCell` by the thread that owns its position.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use crate::runtime::sync::{AtomicUsize, Ordering};

/// Positions are counted in steps of four, above two flag bits.
const STEP: usize = 4;
const FLAGS: usize = 0b11;
/// In `tail`: no more messages.
const CLOSED: usize = 0b01;
/// In `tail`: the receiver waits for the next message. In `head`: senders wait for the next free
/// slot.
const AWAITED: usize = 0b10;

/// Keeps what different threads write in different cache lines; in pairs of lines, as processors
/// prefetch them.
#[repr(align(128))]
struct CachePadded<T>(T);

struct Slot<T> {
    /// The message of position `turn - STEP` is here, unless it has been taken out.
    turn: AtomicUsize,
    message: UnsafeCell<MaybeUninit<T>>,
}

/// The fields that senders change.
struct Tail {
    position: AtomicUsize,
    /// A copy of `head` as a sender saw it last, so that senders seldom read `head` itself.
    head: AtomicUsize,
}

/// A bounded lock-free queue; see the module's page.
pub(super) struct Ring<T> {
    slots: Box<[Slot<T>]>,
    capacity: usize,
    tail: CachePadded<Tail>,
    head: CachePadded<AtomicUsize>,
}

// SAFETY: messages move from one thread to another, hence `T: Send`; each slot is used by one
// thread at a time: by a sender from the claim of its position to the store of `turn`, by the
// receiver from there to the change of `head`.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as for `Send`: shared access moves messages, and never shares a `&T`.
unsafe impl<T: Send> Sync for Ring<T> {}

/// Why a message was refused; holds the message.
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// Whether the other side waits for what was done just now, and must be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Awaited {
    Yes,
    No,
}

impl Awaited {
    fn from_word(word: usize) -> Self {
        if word & AWAITED == 0 { Awaited::No } else { Awaited::Yes }
    }
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        // Positions start at zero, and the first turn is `STEP`.
        let slot =
            || Slot { turn: AtomicUsize::new(0), message: UnsafeCell::new(MaybeUninit::uninit()) };
        Ring {
            slots: (0..capacity.next_power_of_two()).map(|_| slot()).collect(),
            capacity,
            tail: CachePadded(Tail { position: AtomicUsize::new(0), head: AtomicUsize::new(0) }),
            head: CachePadded(AtomicUsize::new(0)),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[(position / STEP) & (self.slots.len() - 1)]
    }

    /// Returns `true` if a claim at `tail` has a free slot.
    #[inline(always)]
    fn has_room(&self, tail: usize) -> bool {
        let used = |head: usize| (tail & !FLAGS).wrapping_sub(head) / STEP;
        // Acquire: what the receiver did with a slot happens before what is done with it now.
        if used(self.tail.0.head.load(Ordering::Acquire)) < self.capacity {
            return true;
        }
        let head = self.head.0.load(Ordering::Acquire) & !FLAGS;
        self.tail.0.head.store(head, Ordering::Release);
        // More than the capacity: `tail` is outdated, and its exchange will fail.
        used(head) != self.capacity
    }

    /// Adds a message; on any thread.
    #[inline]
    pub(super) fn push(&self, message: T) -> Result<Awaited, Refused<T>> {
        let mut tail = self.tail.0.position.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(Refused::Closed(message));
            }
            if !self.has_room(tail) {
                return Err(Refused::Full(message));
            }
            let next = (tail & !FLAGS).wrapping_add(STEP);
            match self.tail.0.position.compare_exchange_weak(
                tail,
                next,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let slot = self.slot(tail);
                    // SAFETY: this thread has claimed the position, and its slot is free: there are
                    // never more positions in use than slots.
                    unsafe { (*slot.message.get()).write(message) };
                    slot.turn.store(next, Ordering::Release);
                    return Ok(Awaited::from_word(tail));
                }
                Err(now) => tail = now,
            }
        }
    }

    /// Takes the oldest message out, if it is there.
    ///
    /// # Safety
    /// No other call of `pop` on this queue runs at the same time.
    #[inline]
    pub(super) unsafe fn pop(&self) -> Option<(T, Awaited)> {
        let head = self.head.0.load(Ordering::Relaxed) & !FLAGS;
        let slot = self.slot(head);
        if slot.turn.load(Ordering::Acquire) != head.wrapping_add(STEP) {
            return None;
        }
        // SAFETY: the slot's turn says that the message is there, and no other call takes it at the
        // same time.
        let message = unsafe { (*slot.message.get()).assume_init_read() };
        let head = self.head.0.fetch_add(STEP, Ordering::AcqRel);
        Some((message, Awaited::from_word(head)))
    }

    /// Announces that the receiver is about to wait. Returns `false` if positions have been claimed
    /// whose messages are there, or about to be written.
    pub(super) fn await_message(&self) -> bool {
        let tail = self.tail.0.position.fetch_or(AWAITED, Ordering::AcqRel) & !FLAGS;
        tail == self.head.0.load(Ordering::Relaxed) & !FLAGS
    }

    /// Announces whether senders wait for a free slot, and returns how many slots are free. Called
    /// under the senders' lock.
    pub(super) fn await_room(&self, awaited: bool) -> usize {
        let head = match awaited {
            true => self.head.0.fetch_or(AWAITED, Ordering::AcqRel),
            false => self.head.0.fetch_and(!AWAITED, Ordering::AcqRel),
        };
        let tail = self.tail.0.position.load(Ordering::Acquire) & !FLAGS;
        let used = tail.wrapping_sub(head & !FLAGS) / STEP;
        self.capacity.saturating_sub(used)
    }

    /// Refuses further messages.
    pub(super) fn close(&self) {
        self.tail.0.position.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.0.position.load(Ordering::Acquire) & CLOSED != 0
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: no other call runs.
        while unsafe { self.pop() }.is_some() {}
    }
}
