//! A hierarchical timing wheel: the coarse part of the timer queue.
//!
//! Time is counted in ticks of 2^16 ns. Level 0 has 64 lists, one per tick; each list of level 1
//! holds the timers of 64 ticks, and so on: eight levels cover all 64-bit deadlines. A timer is in
//! the level of the highest digit (of 6 bits) in which its tick and the current tick differ. So
//! every list is in the future, and all timers of a level are due before those of the levels above.
//! When the current tick reaches the start of a list, its timers move down, each at most once per
//! level.
//!
//! Reference: Varghese and Lauck, "Hashed and hierarchical timing wheels: data structures for the
//! efficient implementation of a timer facility", SOSP 1987, scheme 7.

// # Why this file has `unsafe`
// The lists follow raw pointers to pinned nodes.

use std::cell::Cell;
use std::ptr;

use super::Timer;

/// The binary logarithm of a tick's length in nanoseconds. A tick is about as long as the kernel's
/// timer slack.
const TICK_BITS: u32 = 16;
/// The binary logarithm of the number of lists in a level.
const DIGIT_BITS: u32 = 6;
const LISTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
const _: () = assert!(TICK_BITS + DIGIT_BITS * LEVELS as u32 == u64::BITS);

/// If a list has more timers than this, it is not searched for the earliest one.
pub(super) const CROWD: usize = 32;

/// The timers of later ticks, unsorted within a tick.
pub(super) struct Wheel {
    /// The current tick. All timers in the wheel are due in later ticks.
    tick: Cell<u64>,
    levels: [Level; LEVELS],
}

struct Level {
    /// A bit for each list that is not empty.
    occupied: Cell<u64>,
    lists: [Cell<*const Timer>; LISTS],
}

impl Level {
    const fn new() -> Self {
        Level { occupied: Cell::new(0), lists: [const { Cell::new(ptr::null()) }; LISTS] }
    }
}

/// The position of a list in the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    level: u8,
    digit: u8,
}

/// Returns the last nanosecond of a tick.
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

    /// Adds a timer. Returns `false`, without adding it, if it is due in the current tick or
    /// before.
    ///
    /// # Safety
    /// The timer is in no heap or wheel. If added, it stays in place until it is removed.
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
        // SAFETY: a timer in a list is alive.
        if let Some(next) = unsafe { next.as_ref() } {
            next.prev.set(timer);
        }
        true
    }

    /// Removes a timer.
    ///
    /// # Safety
    /// The timer is in the list at `place` of this wheel.
    pub(super) unsafe fn remove(&self, timer: *const Timer, place: Place) {
        // SAFETY: the timers in a list are alive.
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

    /// Returns the position of the earliest list that is not empty.
    fn first(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied.get() != 0)?;
        let digit = self.levels[level].occupied.get().trailing_zeros();
        Some(Place { level: level as u8, digit: digit as u8 })
    }

    /// Returns the first tick of a list.
    fn begin(&self, place: Place) -> u64 {
        let bits = u32::from(place.level) * DIGIT_BITS;
        // The digits above are those of the current tick, the ones below are zero.
        let above = self.tick.get() >> bits >> DIGIT_BITS << DIGIT_BITS;
        (above | u64::from(place.digit)) << bits
    }

    fn list(&self, place: Place) -> &Cell<*const Timer> {
        &self.levels[place.level as usize].lists[place.digit as usize]
    }

    /// Returns the last nanosecond of the current tick.
    pub(super) fn end_of_tick(&self) -> u64 {
        end_of(self.tick.get())
    }

    /// Returns the earliest deadline. If more than [`CROWD`] timers are in the earliest list,
    /// returns the end of its tick on level 0, and the start of the list on the levels above.
    pub(super) fn next(&self) -> Option<u64> {
        let place = self.first()?;
        let (mut earliest, mut next) = (u64::MAX, self.list(place).get());
        for _ in 0..=CROWD {
            // SAFETY: a timer in a list is alive.
            let Some(timer) = (unsafe { next.as_ref() }) else { return Some(earliest) };
            earliest = earliest.min(timer.deadline.get());
            next = timer.next.get();
        }
        let begin = self.begin(place);
        Some(if place.level == 0 { end_of(begin) } else { begin << TICK_BITS })
    }

    /// Sets the current time to `now`. Calls `put` with each timer that is due in its tick or
    /// before, or moves down a level; `put` adds it to its new place.
    pub(super) fn advance(&self, now: u64, mut put: impl FnMut(*const Timer)) {
        let tick = now >> TICK_BITS;
        while let Some(place) = self.first().filter(|&place| self.begin(place) <= tick) {
            self.tick.set(self.begin(place));
            let level = &self.levels[place.level as usize];
            level.occupied.set(level.occupied.get() & !(1 << place.digit));
            let mut rest = self.list(place).replace(ptr::null());
            // SAFETY: a timer in a list is alive.
            while let Some(timer) = unsafe { rest.as_ref() } {
                rest = timer.next.get();
                timer.place.set(None);
                put(timer);
            }
        }
        self.tick.set(tick.max(self.tick.get()));
    }

    /// Returns any of the timers.
    pub(super) fn any(&self) -> Option<&Timer> {
        // SAFETY: a timer in a list is alive.
        self.first().and_then(|place| unsafe { self.list(place).get().as_ref() })
    }
}
