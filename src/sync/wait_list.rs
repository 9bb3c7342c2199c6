//! A list of tasks that wait for room, first come, first served; guarded by its owner's lock.
//!
//! A task that finds no room joins the list and keeps its ticket. When room becomes free, the owner
//! [grants](WaitList::grant) it to the first tasks on the list. A task that has been granted room
//! stays on the list, and the room counts as taken, until the task [leaves](WaitList::leave): to
//! use the room, or because it was dropped. So no task that comes later takes the room first, and
//! no room is lost.
//!
//! A future that was granted room and is not polled again, or was leaked, must not keep the room
//! for ever. So the first task that still waits *watches* those before it: it is woken once, after
//! them, and looks again after [`PATIENCE`] until they have used their room. If they have not by
//! then, their grants *lapse*: the room goes to the next, and they wait again, at their old places,
//! from their next poll on. Each grant that a task loses doubles its time for the next, so that a
//! thread that gets little processor time is not overtaken for ever.
//!
//! Methods hand wakers out instead of waking or dropping them: both may run foreign code, which
//! must not happen under the lock. Only `Waker::clone` is called under it.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::seams::clock;
use crate::runtime::Runtime;

/// How long room may be wanted and unused before a first grant lapses; doubled for each one that a
/// task has lost, up to `MOST_LOSSES` times. A task that was woken runs much sooner, unless its
/// thread, or the one that wakes it, waits for a processor.
const PATIENCE: Duration = match cfg!(test) {
    true => Duration::from_secs(60), // Passes when the tests say so, however slowly they run.
    false => Duration::from_millis(10),
};
const MOST_LOSSES: u8 = 8;

/// Tasks that wait for room, in order; see the module's page.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// In the order of their tickets.
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    /// How many of `waiters` have been granted room.
    granted: usize,
    /// How many of them have lost it.
    lapsed: usize,
    /// The task that was last woken to watch, or does so.
    watcher: Option<Ticket>,
    /// Since when nothing has been granted or used although others wanted the room.
    unused_since: Option<Instant>,
}

/// Identifies a task on a [`WaitList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    place: Place,
    /// How many grants have lapsed.
    losses: u8,
}

#[derive(Debug)]
enum Place {
    Waits(Waker),
    Granted,
    Lapsed,
}

/// The result of [polling](WaitList::poll) for room.
#[derive(Debug)]
#[must_use]
pub(crate) enum Turn {
    /// The task uses the room, and [leaves](WaitList::leave).
    Granted(Ticket),
    /// The task waits.
    Waits(Waits),
}

/// What a task does that waits, once the owner's lock is released.
#[derive(Debug)]
#[must_use]
pub(crate) struct Waits {
    /// The waker that was replaced.
    old: Option<Waker>,
    /// The task has to look again whether others have used their room.
    watches: bool,
}

impl Waits {
    /// Drops the old waker and wakes the others, and after a while the task itself if it watches.
    pub(crate) fn wake(self, others: Vec<Waker>, own: &Waker) {
        drop(self.old);
        others.into_iter().for_each(Waker::wake);
        if self.watches {
            Runtime::wake_after(PATIENCE, own);
        }
    }
}

impl WaitList {
    /// Creates an empty list.
    pub(crate) const fn new() -> Self {
        WaitList {
            waiters: VecDeque::new(),
            next_ticket: 0,
            granted: 0,
            lapsed: 0,
            watcher: None,
            unused_since: None,
        }
    }

    /// Returns `true` if no task waits or has been granted room.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.len() == self.lapsed
    }

    /// Returns how many tasks have been granted room that they have not used yet.
    pub(crate) fn granted(&self) -> usize {
        self.granted
    }

    /// Returns `true` if a task waits that has not been granted room.
    pub(crate) fn has_waiting(&self) -> bool {
        self.granted + self.lapsed < self.waiters.len()
    }

    /// Polls for room, of which `room` is free, including what has been granted. Without a ticket
    /// the task joins the list. Adds the wakers of tasks that are granted room to `wakers`.
    pub(crate) fn poll(
        &mut self,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
        room: usize,
        wakers: &mut Vec<Waker>,
    ) -> Turn {
        let own = *ticket.get_or_insert_with(|| self.join());
        let old = self.renew(own, waker);
        self.grant_polled(room, wakers, Some(own));
        let watches = self.granted > 0 && self.is_first_waiting(own);
        if watches && self.suspect() {
            self.grant_polled(room, wakers, Some(own));
        }
        if matches!(self.waiter(own).place, Place::Granted) {
            // A waker that has been replaced goes the way of the others: waking it does no harm.
            wakers.extend(old);
            return Turn::Granted(own);
        }
        if watches || self.watcher == Some(own) {
            self.watcher = watches.then_some(own);
        }
        Turn::Waits(Waits { old, watches })
    }

    /// Adds a task at the end, which has yet to leave its waker.
    fn join(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.push_back(Waiter { ticket, place: Place::Lapsed, losses: 0 });
        self.lapsed += 1;
        ticket
    }

    /// Replaces the waker of a task that still waits, and returns the old one. A task whose grant
    /// has lapsed waits again.
    fn renew(&mut self, ticket: Ticket, waker: &Waker) -> Option<Waker> {
        let place = &mut self.waiter(ticket).place;
        match place {
            Place::Granted => return None,
            Place::Waits(current) => return Some(std::mem::replace(current, waker.clone())),
            Place::Lapsed => *place = Place::Waits(waker.clone()),
        }
        self.lapsed -= 1;
        None
    }

    /// Makes a task that had been granted room wait again, at its old place.
    pub(crate) fn wait_again(&mut self, ticket: Ticket, waker: Waker) {
        self.waiter(ticket).place = Place::Waits(waker);
        self.granted -= 1;
    }

    /// Removes a task, and returns its waker if it still waited. The caller grants the room that
    /// the task leaves unused.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        match self.waiters.remove(self.find(ticket)?)?.place {
            Place::Waits(waker) => return Some(waker),
            Place::Granted => self.granted -= 1,
            Place::Lapsed => self.lapsed -= 1,
        }
        self.unused_since = None;
        None
    }

    /// Grants room to as many tasks as there is `room` for, in order, those included that have been
    /// granted room before; adds the wakers of the others to `wakers`, and that of the next task.
    pub(crate) fn grant(&mut self, room: usize, wakers: &mut Vec<Waker>) {
        self.grant_polled(room, wakers, None);
    }

    /// Grants room while the task with the ticket `polled` is being polled: it is not woken to
    /// watch the others, as it does so anyway.
    fn grant_polled(&mut self, room: usize, wakers: &mut Vec<Waker>, polled: Option<Ticket>) {
        let before = self.granted;
        // Those that have been granted room have theirs, wherever they are on the list.
        let mut left = room.saturating_sub(before);
        for waiter in &mut self.waiters {
            let Place::Waits(next) = &waiter.place else { continue };
            if left == 0 {
                let watcher = Some(waiter.ticket);
                if self.granted > 0 && watcher != polled && watcher != self.watcher {
                    wakers.push(next.clone());
                    self.watcher = watcher;
                }
                break;
            }
            left -= 1;
            if let Place::Waits(waker) = std::mem::replace(&mut waiter.place, Place::Granted) {
                wakers.push(waker);
            }
            self.granted += 1;
        }
        if self.granted > before {
            self.unused_since = None;
        }
    }

    /// Wakes all tasks to let them see that their owner is closed: each counts as granted until it
    /// leaves.
    pub(crate) fn grant_all(&mut self, wakers: &mut Vec<Waker>) {
        self.grant(usize::MAX, wakers);
    }

    /// Records that granted room was wanted and not used. Returns `true` if that has been so for
    /// too long: the grants have lapsed, and the caller grants the room to others.
    pub(crate) fn suspect(&mut self) -> bool {
        // A model has no clock.
        if cfg!(loom) {
            return false;
        }
        // `take` ends the search behind the last of them.
        let is_granted = |waiter: &&mut Waiter| matches!(waiter.place, Place::Granted);
        let granted = self.granted;
        let losses = self.waiters.iter_mut().filter(is_granted).take(granted);
        let Some(losses) = losses.map(|waiter| waiter.losses).max() else { return false };
        let now = clock::now();
        let since = *self.unused_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE * (1 << losses) {
            return false;
        }
        for waiter in self.waiters.iter_mut().filter(is_granted).take(granted) {
            waiter.place = Place::Lapsed;
            waiter.losses = (waiter.losses + 1).min(MOST_LOSSES);
        }
        self.lapsed += std::mem::take(&mut self.granted);
        self.unused_since = None;
        true
    }

    fn is_first_waiting(&self, ticket: Ticket) -> bool {
        let mut waiting =
            self.waiters.iter().filter(|waiter| matches!(waiter.place, Place::Waits(_)));
        waiting.next().is_some_and(|waiter| waiter.ticket == ticket)
    }

    fn waiter(&mut self, ticket: Ticket) -> &mut Waiter {
        let place = self.find(ticket).expect("a task with a ticket is on the list");
        &mut self.waiters[place]
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Tasks {
        list: WaitList,
        counts: Vec<Arc<Count>>,
        tickets: Vec<Option<Ticket>>,
    }

    impl Tasks {
        /// As many tasks that wait for room, of which there is none.
        fn new(count: usize) -> Self {
            let counts: Vec<Arc<Count>> = (0..count).map(|_| Arc::default()).collect();
            let mut tasks = Tasks { list: WaitList::new(), counts, tickets: vec![None; count] };
            assert!((0..count).all(|task| tasks.poll(task, 0) == Some(false)));
            tasks
        }

        /// Polls a task: `None` if it was granted room, else whether it watches.
        fn poll(&mut self, task: usize, room: usize) -> Option<bool> {
            let waker = self.counts[task].clone().into();
            let mut wakers = Vec::new();
            let turn = self.list.poll(&mut self.tickets[task], &waker, room, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
            match turn {
                Turn::Granted(_) => {
                    self.leave(task);
                    None
                }
                Turn::Waits(waits) => Some(waits.watches),
            }
        }

        fn grant(&mut self, room: usize) {
            let mut wakers = Vec::new();
            self.list.grant(room, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
        }

        fn leave(&mut self, task: usize) -> Option<Waker> {
            self.list.leave(self.tickets[task].take().expect("the task is on the list"))
        }

        /// Lets the patience for a task's grant pass that has lost others.
        fn pass(&mut self, losses: u32) {
            let since = self.list.unused_since.as_mut().expect("a task has looked");
            *since -= PATIENCE * 2u32.pow(losses);
        }

        fn woken(&self) -> Vec<usize> {
            self.counts.iter().map(|count| count.0.swap(0, Ordering::Relaxed)).collect()
        }
    }

    #[test]
    fn room_is_granted_in_order_and_once() {
        let mut tasks = Tasks::new(4);
        tasks.grant(0);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![0, 0, 0, 0], 0));
        tasks.grant(2);
        // The third is there to see whether the others use their room.
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![1, 1, 1, 0], 2));
        // The same two rooms, still unused.
        tasks.grant(2);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![0, 0, 0, 0], 2));
        assert!(tasks.list.has_waiting());
        assert_eq!((tasks.poll(0, 2), tasks.poll(1, 1), tasks.list.granted()), (None, None, 0));
        assert_eq!(tasks.poll(2, 0), Some(false));
    }

    #[test]
    fn room_that_is_left_unused_goes_to_the_next() {
        let mut tasks = Tasks::new(3);
        tasks.grant(1);
        tasks.woken();
        assert!(tasks.leave(0).is_none(), "it was granted room");
        assert!(tasks.leave(1).is_some(), "it still waited");
        assert_eq!(tasks.list.granted(), 0);
        tasks.grant(1);
        assert_eq!(tasks.woken(), [0, 0, 1]);
        assert!(tasks.leave(2).is_none());
        assert!(tasks.list.is_empty() && tasks.list.granted() == 0);
    }

    #[test]
    fn a_waker_is_replaced_until_room_is_granted() {
        let mut tasks = Tasks::new(1);
        let old = std::mem::take(&mut tasks.counts[0]);
        assert_eq!(tasks.poll(0, 0), Some(false));
        tasks.grant(1);
        assert_eq!((tasks.woken(), old.0.load(Ordering::Relaxed)), (vec![1], 0));
        assert_eq!(tasks.poll(0, 1), None);
    }

    #[test]
    fn a_task_that_found_no_room_after_all_keeps_its_place() {
        let mut tasks = Tasks::new(2);
        tasks.grant(1);
        tasks.list.wait_again(tasks.tickets[0].unwrap(), tasks.counts[0].clone().into());
        assert_eq!(tasks.woken(), [1, 1]);
        assert_eq!(tasks.poll(1, 0), Some(false), "there is nothing to watch");
        tasks.grant(1);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![1, 1], 1));
    }

    #[test]
    fn room_that_is_never_used_goes_to_the_next_in_the_end() {
        let mut tasks = Tasks::new(3);
        tasks.grant(1);
        assert_eq!(tasks.woken(), [1, 1, 0]);
        assert_eq!(tasks.poll(1, 1), Some(true), "the first may not have had its turn");
        assert_eq!(tasks.poll(2, 1), Some(false), "it is not the next");
        tasks.pass(0);
        assert_eq!(tasks.poll(1, 1), None);
        // It has lost its grant, and not its place; the next time it has longer.
        assert_eq!(tasks.poll(0, 0), Some(false));
        tasks.grant(1);
        assert_eq!(tasks.poll(2, 1), Some(true));
        tasks.pass(0);
        assert_eq!(tasks.poll(2, 1), Some(true));
        assert_eq!(tasks.poll(0, 1), None);
        assert_eq!(tasks.poll(2, 1), None);
        assert!(tasks.list.is_empty());
    }

    #[test]
    fn another_task_watches_if_the_one_that_watched_leaves() {
        let mut tasks = Tasks::new(3);
        tasks.grant(1);
        assert_eq!(tasks.woken(), [1, 1, 0]);
        tasks.leave(1);
        tasks.grant(1);
        assert_eq!(tasks.woken(), [0, 0, 1]);
        assert_eq!(tasks.poll(2, 1), Some(true));
        tasks.pass(0);
        assert_eq!(tasks.poll(2, 1), None);
    }

    #[test]
    fn room_that_was_passed_on_is_not_granted_twice() {
        let mut tasks = Tasks::new(2);
        tasks.grant(1);
        assert!(!tasks.list.suspect());
        tasks.pass(0);
        assert!(tasks.list.suspect());
        tasks.grant(1);
        assert_eq!(tasks.list.granted(), 1);
        // The first has lost it to the second, and comes back before that has used it.
        assert_eq!((tasks.poll(0, 1), tasks.list.granted()), (Some(true), 1));
        assert_eq!((tasks.poll(1, 1), tasks.poll(0, 1)), (None, None));
    }

    #[test]
    fn a_task_whose_grant_lapsed_is_not_in_the_way() {
        let mut tasks = Tasks::new(1);
        tasks.grant(1);
        assert!(!tasks.list.suspect());
        tasks.pass(0);
        assert!(tasks.list.suspect());
        assert!(tasks.list.is_empty() && tasks.list.granted() == 0 && !tasks.list.has_waiting());
        assert!(tasks.leave(0).is_none());
        assert_eq!(tasks.list.lapsed, 0);
    }

    #[test]
    fn all_are_woken_when_the_owner_closes() {
        let mut tasks = Tasks::new(3);
        tasks.grant(1);
        let mut wakers = Vec::new();
        tasks.list.grant_all(&mut wakers);
        assert_eq!((wakers.len(), tasks.list.granted()), (2, 3));
        assert!(!tasks.list.has_waiting() && !tasks.list.is_empty());
    }
}
