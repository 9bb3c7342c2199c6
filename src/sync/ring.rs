//! A bounded queue, from many to one, without locks.
//!
//! Each message has a position. A sender claims the next one by moving `tail`, writes its message into the
//! position's slot, and says so in the slot's `turn`. The one receiver reads slots in order and moves `head`.
//! After Dmitry Vyukov's [bounded queue](https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue),
//! but for the capacity, which is exact: `head` says which slots are free.
//!
//! # Why this file has `unsafe`
//! Slots are written and read by whoever has their position.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use crate::runtime::sync::{AtomicUsize, Ordering};

/// Positions are counted in steps of two: the lowest bit of `tail` says that the queue is closed.
const STEP: usize = 2;
const CLOSED: usize = 1;

/// Keeps what is written by different threads in different cache lines, two at a time as processors fetch
/// them.
#[repr(align(128))]
struct Apart<T>(T);

struct Slot<T> {
    /// The message of position `turn - STEP` is here, if it has not been taken out.
    turn: AtomicUsize,
    message: UnsafeCell<MaybeUninit<T>>,
}

pub(super) struct Ring<T> {
    slots: Box<[Slot<T>]>,
    capacity: usize,
    tail: Apart<AtomicUsize>,
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

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        // Positions start at zero, and the first turn is `STEP`.
        let slot =
            || Slot { turn: AtomicUsize::new(0), message: UnsafeCell::new(MaybeUninit::uninit()) };
        Ring {
            slots: (0..capacity.next_power_of_two()).map(|_| slot()).collect(),
            capacity,
            tail: Apart(AtomicUsize::new(0)),
            head: Apart(AtomicUsize::new(0)),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[(position / STEP) & (self.slots.len() - 1)]
    }

    /// How many positions are claimed and not free again.
    pub(super) fn len(&self) -> usize {
        let tail = self.tail.0.load(Ordering::SeqCst) & !CLOSED;
        tail.wrapping_sub(self.head.0.load(Ordering::SeqCst)) / STEP
    }

    /// Any thread: adds a message.
    pub(super) fn push(&self, message: T) -> Result<(), Refused<T>> {
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                return Err(Refused::Closed(message));
            }
            // What the receiver did with the slot comes before what is done with it now.
            let used = tail.wrapping_sub(self.head.0.load(Ordering::Acquire)) / STEP;
            // More than all: `tail` is an old one, and will not be exchanged.
            if used == self.capacity {
                return Err(Refused::Full(message));
            }
            let next = tail.wrapping_add(STEP);
            match self.tail.0.compare_exchange_weak(
                tail,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    let slot = self.slot(tail);
                    // SAFETY: the position is ours alone, and its slot is free: there are no more
                    // positions in use than slots.
                    unsafe { (*slot.message.get()).write(message) };
                    slot.turn.store(next, Ordering::Release);
                    return Ok(());
                }
                Err(now) => tail = now,
            }
        }
    }

    /// Takes the oldest message out, if it is there.
    ///
    /// # Safety
    /// One thread at a time.
    pub(super) unsafe fn pop(&self) -> Option<T> {
        let head = self.head.0.load(Ordering::Relaxed);
        let (slot, next) = (self.slot(head), head.wrapping_add(STEP));
        if slot.turn.load(Ordering::Acquire) != next {
            return None;
        }
        // SAFETY: the slot's turn says that the message is there, and the caller is the only one who
        // takes any.
        let message = unsafe { (*slot.message.get()).assume_init_read() };
        self.head.0.store(next, Ordering::Release);
        Some(message)
    }

    /// Takes no more messages; `false` if it was so already.
    pub(super) fn close(&self) {
        self.tail.0.fetch_or(CLOSED, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.0.load(Ordering::SeqCst) & CLOSED != 0
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has it any more.
        while unsafe { self.pop() }.is_some() {}
    }
}
