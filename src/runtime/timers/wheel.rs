//! The coarse part: a hierarchical timing wheel.
//!
//! Time is counted in ticks of 2^16 ns. Level 0 has a list for each of the next ticks, up to 64; level 1 one
//! for each of the next 64 ticks, and so on: eight levels reach to the end of time. A timer lies in the level
//! of the highest digit (of 6 bits) in which its tick and the current one differ, so every list is in the
//! future, and whatever is in a level is due before all that is in the levels above. When the current tick
//! comes to the beginning of a list, its timers move down, at most once per level each.
//!
//! Reference: Varghese and Lauck, "Hashed and hierarchical timing wheels: data structures for the
//! efficient implementation of a timer facility", SOSP 1987, scheme 7.
//!
//! # Why this file has `unsafe`
//! The lists follow raw pointers to pinned nodes.

use std::cell::Cell;
use std::ptr;

use super::Timer;

/// A tick's length is two to the power of this, in nanoseconds: about the kernel's timer slack.
const TICK_BITS: u32 = 16;
/// A level has two to the power of this lists.
const DIGIT_BITS: u32 = 6;
const LISTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
const _: () = assert!(TICK_BITS + DIGIT_BITS * LEVELS as u32 == u64::BITS);

/// More timers than this, in one tick, need not be told apart.
pub(super) const CROWD: usize = 32;

pub(super) struct Wheel {
    /// The current tick. Later ones are in here, this and earlier ones are not.
    tick: Cell<u64>,
    levels: [Level; LEVELS],
}

struct Level {
    /// Which lists are not empty.
    occupied: Cell<u64>,
    lists: [Cell<*const Timer>; LISTS],
}

impl Level {
    const fn new() -> Self {
        Level { occupied: Cell::new(0), lists: [const { Cell::new(ptr::null()) }; LISTS] }
    }
}

/// A list of the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    level: u8,
    digit: u8,
}

/// The last nanosecond of a tick.
fn end_of(tick: u64) -> u64 {
    tick << TICK_BITS | ((1 << TICK_BITS) - 1)
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Wheel { tick: Cell::new(0), levels: [const { Level::new() }; LEVELS] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Takes the timer in; `false`: it is due in the current tick, or before.
    ///
    /// # Safety
    /// The timer is in no heap or wheel; taken in, it stays in place until it has left this one.
    pub(super) unsafe fn insert(&self, timer: *const Timer) -> bool {
        // SAFETY: the caller keeps it alive.
        let timer = unsafe { &*timer };
        let (tick, now) = (timer.deadline.get() >> TICK_BITS, self.tick.get());
        if tick <= now {
            return false;
        }
        let level = (tick ^ now).ilog2() / DIGIT_BITS;
        let digit = (tick >> (level * DIGIT_BITS)) as usize % LISTS;
        let here = &self.levels[level as usize];
        here.occupied.set(here.occupied.get() | 1 << digit);
        let next = here.lists[digit].replace(timer);
        timer.place.set(Some(Place { level: level as u8, digit: digit as u8 }));
        timer.next.set(next);
        timer.prev.set(ptr::null());
        // SAFETY: what is in a list is alive.
        if let Some(next) = unsafe { next.as_ref() } {
            next.prev.set(timer);
        }
        true
    }

    /// # Safety
    /// The timer is in this list of this wheel.
    pub(super) unsafe fn remove(&self, timer: *const Timer, place: Place) {
        // SAFETY: everything in the list is alive.
        unsafe {
            let (prev, next) = ((*timer).prev.get(), (*timer).next.get());
            if let Some(next) = next.as_ref() {
                next.prev.set(prev);
            }
            if let Some(prev) = prev.as_ref() {
                prev.next.set(next);
                return;
            }
            let level = &self.levels[place.level as usize];
            level.lists[place.digit as usize].set(next);
            if next.is_null() {
                level.occupied.set(level.occupied.get() & !(1 << place.digit));
            }
        }
    }

    /// The list that comes next.
    fn first(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied.get() != 0)?;
        let digit = self.levels[level].occupied.get().trailing_zeros();
        Some(Place { level: level as u8, digit: digit as u8 })
    }

    /// The tick with which a list begins.
    fn begin(&self, place: Place) -> u64 {
        let bits = u32::from(place.level) * DIGIT_BITS;
        // The digits above are those of the current tick, the ones below are zero.
        let above = self.tick.get() >> bits >> DIGIT_BITS << DIGIT_BITS;
        (above | u64::from(place.digit)) << bits
    }

    fn list(&self, place: Place) -> &Cell<*const Timer> {
        &self.levels[place.level as usize].lists[place.digit as usize]
    }

    /// The last nanosecond of the current tick.
    pub(super) fn end_of_tick(&self) -> u64 {
        end_of(self.tick.get())
    }

    /// The earliest deadline; for a crowd the end of its tick, or, further up, the beginning of its list.
    pub(super) fn next(&self) -> Option<u64> {
        let place = self.first()?;
        let (mut earliest, mut next) = (u64::MAX, self.list(place).get());
        for _ in 0..=CROWD {
            // SAFETY: what is in a list is alive.
            let Some(timer) = (unsafe { next.as_ref() }) else { return Some(earliest) };
            earliest = earliest.min(timer.deadline.get());
            next = timer.next.get();
        }
        let begin = self.begin(place);
        Some(if place.level == 0 { end_of(begin) } else { begin << TICK_BITS })
    }

    /// Makes `now` the current time. What is due in its tick, and before, comes out; that and what moves
    /// down a level is put in its new place by `put`.
    pub(super) fn advance(&self, now: u64, mut put: impl FnMut(*const Timer)) {
        let tick = now >> TICK_BITS;
        while let Some(place) = self.first().filter(|&place| self.begin(place) <= tick) {
            self.tick.set(self.begin(place));
            let level = &self.levels[place.level as usize];
            level.occupied.set(level.occupied.get() & !(1 << place.digit));
            let mut rest = self.list(place).replace(ptr::null());
            // SAFETY: what is in a list is alive.
            while let Some(timer) = unsafe { rest.as_ref() } {
                rest = timer.next.get();
                timer.place.set(None);
                put(timer);
            }
        }
        self.tick.set(tick.max(self.tick.get()));
    }

    /// Any of the timers.
    pub(super) fn any(&self) -> Option<&Timer> {
        // SAFETY: what is in a list is alive.
        self.first().and_then(|place| unsafe { self.list(place).get().as_ref() })
    }
}
