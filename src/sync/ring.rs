//! A bounded queue, from many to one, without locks.
//!
//! Each message has a position. A sender claims the next one by moving `tail`, writes its message into the
//! position's slot, and says so in the slot's `turn`. The one receiver reads slots in order and moves `head`.
//! After Dmitry Vyukov's [bounded queue](https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue),
//! but for the capacity, which is exact: `head` says which slots are free.
//!
//! Whoever is about to wait says so in the very word that the other side has to change: the receiver in `tail`,
//! senders in `head`. So either the change comes first, and is seen, or it meets the sign.
//!
//! # Why this file has `unsafe`
//! Slots are written and read by whoever has their position.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use crate::runtime::sync::{AtomicUsize, Ordering};

/// Positions are counted in steps of four, above two signs.
const STEP: usize = 4;
const SIGNS: usize = 0b11;
/// In `tail`: no more messages.
const CLOSED: usize = 0b01;
/// In `tail`: the receiver waits for the next message. In `head`: senders wait for the next free slot.
const AWAITED: usize = 0b10;

/// Keeps what is written by different threads in different cache lines, two at a time as processors fetch
/// them.
#[repr(align(128))]
struct Apart<T>(T);

struct Slot<T> {
    /// The message of position `turn - STEP` is here, if it has not been taken out.
    turn: AtomicUsize,
    message: UnsafeCell<MaybeUninit<T>>,
}

/// What senders change.
struct Tail {
    position: AtomicUsize,
    /// Where `head` was when a sender last looked, so that they seldom have to.
    head: AtomicUsize,
}

pub(super) struct Ring<T> {
    slots: Box<[Slot<T>]>,
    capacity: usize,
    tail: Apart<Tail>,
    head: Apart<AtomicUsize>,
}

// SAFETY: messages go from one thread to another, and slots are used by one at a time: a sender from the claim
// of its position to the change of `turn`, the receiver from there to the change of `head`.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ring<T> {}

/// Why a message was not taken.
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

/// Whether the other side waits for what was done just now, and is to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Awaited {
    Yes,
    No,
}

impl Awaited {
    fn by(word: usize) -> Self {
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
            tail: Apart(Tail { position: AtomicUsize::new(0), head: AtomicUsize::new(0) }),
            head: Apart(AtomicUsize::new(0)),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[(position / STEP) & (self.slots.len() - 1)]
    }

    /// Whether a claim at `tail` has a free slot.
    #[inline(always)]
    fn has_room(&self, tail: usize) -> bool {
        let used = |head: usize| (tail & !SIGNS).wrapping_sub(head) / STEP;
        // What the receiver did with a slot comes before what is done with it now.
        if used(self.tail.0.head.load(Ordering::Acquire)) < self.capacity {
            return true;
        }
        let head = self.head.0.load(Ordering::Acquire) & !SIGNS;
        self.tail.0.head.store(head, Ordering::Release);
        // More than all: `tail` is an old one, which will not be exchanged.
        used(head) != self.capacity
    }

    /// Any thread: adds a message.
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
            let next = (tail & !SIGNS).wrapping_add(STEP);
            match self.tail.0.position.compare_exchange_weak(
                tail,
                next,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let slot = self.slot(tail);
                    // SAFETY: the position is ours alone, and its slot is free: there are no more
                    // positions in use than slots.
                    unsafe { (*slot.message.get()).write(message) };
                    slot.turn.store(next, Ordering::Release);
                    return Ok(Awaited::by(tail));
                }
                Err(now) => tail = now,
            }
        }
    }

    /// Takes the oldest message out, if it is there.
    ///
    /// # Safety
    /// One thread at a time.
    #[inline]
    pub(super) unsafe fn pop(&self) -> Option<(T, Awaited)> {
        let head = self.head.0.load(Ordering::Relaxed) & !SIGNS;
        let slot = self.slot(head);
        if slot.turn.load(Ordering::Acquire) != head.wrapping_add(STEP) {
            return None;
        }
        // SAFETY: the slot's turn says that the message is there, and the caller is the only one who
        // takes any.
        let message = unsafe { (*slot.message.get()).assume_init_read() };
        let head = self.head.0.fetch_add(STEP, Ordering::AcqRel);
        Some((message, Awaited::by(head)))
    }

    /// Receiver: about to wait. `false`: messages have been claimed, and are there or will be in a moment.
    pub(super) fn await_message(&self) -> bool {
        let tail = self.tail.0.position.fetch_or(AWAITED, Ordering::AcqRel) & !SIGNS;
        tail == self.head.0.load(Ordering::Relaxed) & !SIGNS
    }

    /// Senders, under their lock: whether somebody waits for a free slot; gives how many are free.
    pub(super) fn await_room(&self, awaited: bool) -> usize {
        let head = match awaited {
            true => self.head.0.fetch_or(AWAITED, Ordering::AcqRel),
            false => self.head.0.fetch_and(!AWAITED, Ordering::AcqRel),
        };
        let tail = self.tail.0.position.load(Ordering::Acquire) & !SIGNS;
        let used = tail.wrapping_sub(head & !SIGNS) / STEP;
        self.capacity.saturating_sub(used)
    }

    /// Takes no more messages.
    pub(super) fn close(&self) {
        self.tail.0.position.fetch_or(CLOSED, Ordering::AcqRel);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.0.position.load(Ordering::Acquire) & CLOSED != 0
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has it any more.
        while unsafe { self.pop() }.is_some() {}
    }
}
