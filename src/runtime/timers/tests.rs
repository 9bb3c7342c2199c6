use super::*;

const TICK: u64 = 1 << 16;

fn timer(deadline: u64) -> Box<Timer> {
    let timer = Box::new(Timer::new());
    timer.deadline.set(deadline);
    timer
}

fn random(seed: &mut u64, n: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % n
}

/// Returns `steps`, or a hundredth of them under Miri, which takes as much longer.
const fn many(steps: u64) -> u64 {
    if cfg!(miri) { steps / 100 } else { steps }
}

/// Removes the timers that are due, and returns their deadlines in order.
fn fire(timers: &Timers, now: u64) -> Vec<u64> {
    // SAFETY: as in `Timers::fire`.
    timers.wheel.advance(now, |timer| unsafe { timers.place(timer) });
    timers.next.set(STALE);
    let mut fired = Vec::new();
    while let Some(timer) = timers.heap.first().filter(|first| first.deadline.get() <= now) {
        // SAFETY: it is the heap's root.
        unsafe { timers.heap.remove(timer) };
        fired.push(timer.deadline.get());
    }
    fired
}

/// Compares the queue with a sorted list. Time advances in steps of all sizes, as far as the
/// deadlines reach.
#[test]
fn timers_agree_with_a_sorted_list() {
    for spread in [500, 1 << 18, 1 << 24, 1 << 34, 1 << 50, 1 << 62] {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let boxes: Vec<Box<Timer>> = (0..500).map(|_| timer(0)).collect();
        let timers = Timers::new();
        let (mut inside, mut now) = (Vec::<usize>::new(), 0_u64);
        for step in 0..many(20_000) {
            let pick = random(&mut seed, boxes.len() as u64) as usize;
            if let Some(at) = inside.iter().position(|&i| i == pick) {
                inside.swap_remove(at);
                // SAFETY: it was inserted and not removed since.
                unsafe { timers.remove(&*boxes[pick]) };
            } else {
                inside.push(pick);
                boxes[pick].deadline.set(now.saturating_add(random(&mut seed, spread)));
                // SAFETY: boxed, and outlives its use.
                unsafe { timers.insert(&*boxes[pick]) };
            }
            if random(&mut seed, 4) == 0 {
                now = now.saturating_add(random(&mut seed, spread / 64));
                let mut due: Vec<u64> =
                    inside.iter().map(|&i| boxes[i].deadline.get()).filter(|&d| d <= now).collect();
                due.sort_unstable();
                inside.retain(|&i| boxes[i].deadline.get() > now);
                assert_eq!(fire(&timers, now), due, "at step {step} of spread {spread}");
            }
            // A deadline of `u64::MAX` is never reached, and one of 0 has passed.
            let deadlines = inside.iter().map(|&i| boxes[i].deadline.get().max(1));
            let earliest = deadlines.min().filter(|&earliest| earliest != NEVER);
            let next = timers.next_deadline().unwrap_or(NEVER);
            assert_eq!(timers.is_empty(), inside.is_empty());
            let earliest = earliest.unwrap_or(NEVER);
            assert!(next <= earliest || inside.len() > CROWD, "at step {step} of spread {spread}");
            assert!(next <= earliest.saturating_add(TICK), "at step {step} of spread {spread}");
            if next != earliest {
                // It may be the deadline of a timer that was disarmed, or stand for a crowd.
                timers.next.set(STALE);
                let next = timers.next_deadline().unwrap_or(NEVER);
                assert!(next == earliest || inside.len() > CROWD);
            }
        }
        now = u64::MAX;
        assert_eq!(fire(&timers, now).len(), inside.len());
        assert!(timers.is_empty());
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_of_arming() {
    let boxes: Vec<Box<Timer>> = (0..100).map(|_| timer(70_000_000)).collect();
    let timers = Timers::new();
    for timer in &boxes {
        // SAFETY: boxed, and outlives its use.
        unsafe { timers.insert(&**timer) };
    }
    // SAFETY: as in `Timers::fire`.
    timers.wheel.advance(70_000_000, |timer| unsafe { timers.place(timer) });
    for timer in &boxes {
        assert!(ptr::eq(timers.heap.first().expect("it is due"), &**timer));
        // SAFETY: it is the heap's root.
        unsafe { timers.heap.remove(&**timer) };
    }
}

/// A crowd fires at the end of its tick; it is not searched for its earliest timer on any level.
#[test]
fn a_crowd_fires_together() {
    let len = if cfg!(miri) { 100 } else { 1000 };
    for begin in [5_000_000, 500_000_000_000] {
        let boxes: Vec<Box<Timer>> = (0..len).map(|i| timer(begin + i)).collect();
        let timers = Timers::new();
        for timer in &boxes {
            // SAFETY: boxed, and outlives its use.
            unsafe { timers.insert(&**timer) };
        }
        assert_eq!(timers.next_deadline(), Some(begin), "each is compared as it is armed");
        // SAFETY: it is in there.
        unsafe { timers.remove(&*boxes[0]) };
        let mut checks = 0;
        let fired = loop {
            let next = timers.next_deadline().expect("there are more");
            assert!(next < begin + TICK);
            let fired = fire(&timers, next);
            if !fired.is_empty() {
                break fired;
            }
            checks += 1;
        };
        assert_eq!(fired.len() as u64, len - 1);
        assert!(checks <= 4, "{checks} checks fired nothing");
    }
}

/// Time advances as in the loop: to the next check, or somewhat further. No timer fires later than
/// a tick, all fire in order, and no check is due again at once.
#[test]
fn a_loop_that_waits_for_the_next_check_fires_everything() {
    for spread in [3_000, 100_000, 1 << 19, 1 << 23, 1 << 30, 1 << 40] {
        for (len, oversleeps) in [(5, 1), (40, 1), (300, 1), (40, 1 << 20), (300, 1 << 33)] {
            if cfg!(miri) && len > 40 {
                continue; // Minutes, for what 40 show as well.
            }
            let mut seed = 0x9e37_79b9_7f4a_7c15 ^ (spread * 31 + oversleeps);
            let boxes: Vec<Box<Timer>> = (0..len).map(|_| timer(0)).collect();
            let timers = Timers::new();
            let mut inside = vec![false; len as usize];
            let mut now = random(&mut seed, 1 << 45);
            for _ in 0..many(2000) {
                for _ in 0..random(&mut seed, 4) {
                    let pick = random(&mut seed, len) as usize;
                    inside[pick] = !inside[pick];
                    if !inside[pick] {
                        // SAFETY: it was inserted and not removed since.
                        unsafe { timers.remove(&*boxes[pick]) };
                        continue;
                    }
                    boxes[pick].deadline.set(match random(&mut seed, 30) {
                        0 => 0,
                        1 => u64::MAX,
                        2 => now - random(&mut seed, spread).min(now),
                        _ => now + random(&mut seed, spread),
                    });
                    // SAFETY: boxed, and outlives its use.
                    unsafe { timers.insert(&*boxes[pick]) };
                }
                let armed = (0..boxes.len()).filter(|&i| inside[i]);
                let earliest = armed.map(|i| boxes[i].deadline.get()).min().unwrap_or(NEVER);
                let Some(next) = timers.next_deadline() else {
                    assert_eq!(earliest, NEVER);
                    continue;
                };
                assert!(next <= earliest.max(now).saturating_add(TICK));
                now = now.max(next) + random(&mut seed, oversleeps);
                let due = |i: &usize| inside[*i] && boxes[*i].deadline.get() <= now;
                let mut due: Vec<usize> = (0..boxes.len()).filter(due).collect();
                due.iter().for_each(|&i| inside[i] = false);
                due.sort_unstable_by_key(|&i| (boxes[i].deadline.get(), boxes[i].order.get()));
                let due: Vec<u64> = due.iter().map(|&i| boxes[i].deadline.get()).collect();
                assert_eq!(fire(&timers, now), due);
                assert!(timers.next_deadline().is_none_or(|next| next > now));
            }
        }
    }
}
