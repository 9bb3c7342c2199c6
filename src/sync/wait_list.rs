//! A list of tasks that wait for room, first come, first served; guarded by its owner's lock.
//!
//! A task that finds no room [joins](WaitList::join) the list and keeps its ticket. When room
//! becomes free, the owner [grants](WaitList::grant) it to the first tasks on the list. A task that
//! has been granted room stays on the list, and the room counts as taken, until the task
//! [leaves](WaitList::leave): to use the room, or because it was dropped. So no task that comes
//! later takes the room first, and no room is lost.
//!
//! Methods hand wakers out instead of waking or dropping them: both may run foreign code, which
//! must not happen under the lock. Only `Waker::clone` is called under it.

use std::collections::VecDeque;
use std::task::Waker;

/// Tasks that wait for room, in order; see the module's page.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// In the order of their tickets.
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    /// How many of `waiters` have been granted room.
    granted: usize,
}

/// Identifies a task on a [`WaitList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    /// `None`: it has been granted room.
    waker: Option<Waker>,
}

impl WaitList {
    /// Creates an empty list.
    pub(crate) const fn new() -> Self {
        WaitList { waiters: VecDeque::new(), next_ticket: 0, granted: 0 }
    }

    /// Returns `true` if no task is on the list, granted or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Returns how many tasks have been granted room that they have not used yet.
    pub(crate) fn granted(&self) -> usize {
        self.granted
    }

    /// Returns `true` if a task waits that has not been granted room.
    pub(crate) fn has_waiting(&self) -> bool {
        self.granted < self.waiters.len()
    }

    /// Adds a task at the end.
    pub(crate) fn join(&mut self, waker: Waker) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.push_back(Waiter { ticket, waker: Some(waker) });
        ticket
    }

    /// Replaces the waker of a task that still waits, and returns the old one; `None` if the task
    /// has been granted room.
    pub(crate) fn update(&mut self, ticket: Ticket, waker: &Waker) -> Option<Waker> {
        let place = self.find(ticket).expect("a task with a ticket is on the list");
        let current = self.waiters[place].waker.as_mut()?;
        Some(std::mem::replace(current, waker.clone()))
    }

    /// Makes a task that had been granted room wait again, at its old place.
    pub(crate) fn wait_again(&mut self, ticket: Ticket, waker: Waker) {
        let place = self.find(ticket).expect("a task with a ticket is on the list");
        if self.waiters[place].waker.replace(waker).is_none() {
            self.granted -= 1;
        }
    }

    /// Removes a task, and returns its waker if it still waited. The caller grants the room that
    /// the task leaves unused.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let waiter = self.waiters.remove(self.find(ticket)?)?;
        if waiter.waker.is_none() {
            self.granted -= 1;
        }
        waiter.waker
    }

    /// Grants room to the first `room` tasks of the list, those included that have been granted
    /// room before; adds the wakers of the others to `wakers`.
    pub(crate) fn grant(&mut self, room: usize, wakers: &mut Vec<Waker>) {
        let before = wakers.len();
        let first = self.waiters.iter_mut().take(room);
        wakers.extend(first.filter_map(|waiter| waiter.waker.take()));
        self.granted += wakers.len() - before;
    }

    /// Wakes all tasks to let them see that their owner is closed: each counts as granted until it
    /// leaves.
    pub(crate) fn grant_all(&mut self, wakers: &mut Vec<Waker>) {
        self.grant(usize::MAX, wakers);
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
        tickets: Vec<Ticket>,
    }

    impl Tasks {
        fn new(count: usize) -> Self {
            let mut list = WaitList::new();
            let counts: Vec<Arc<Count>> = (0..count).map(|_| Arc::default()).collect();
            let tickets = counts.iter().map(|count| list.join(count.clone().into())).collect();
            Tasks { list, counts, tickets }
        }

        fn grant(&mut self, room: usize) {
            let mut wakers = Vec::new();
            self.list.grant(room, &mut wakers);
            wakers.into_iter().for_each(Waker::wake);
        }

        fn woken(&self) -> Vec<usize> {
            self.counts.iter().map(|count| count.0.swap(0, Ordering::Relaxed)).collect()
        }
    }

    #[test]
    fn room_is_granted_in_order_and_once() {
        let mut tasks = Tasks::new(3);
        tasks.grant(0);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![0, 0, 0], 0));
        tasks.grant(2);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![1, 1, 0], 2));
        // The same two rooms, still unused.
        tasks.grant(2);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![0, 0, 0], 2));
        assert!(tasks.list.has_waiting());
    }

    #[test]
    fn room_that_is_left_unused_goes_to_the_next() {
        let mut tasks = Tasks::new(3);
        tasks.grant(1);
        assert!(tasks.list.leave(tasks.tickets[0]).is_none(), "it was granted room");
        assert!(tasks.list.leave(tasks.tickets[1]).is_some(), "it still waited");
        assert!(tasks.list.leave(tasks.tickets[1]).is_none(), "it is gone");
        assert_eq!(tasks.list.granted(), 0);
        tasks.grant(1);
        assert_eq!(tasks.woken(), [1, 0, 1]);
        assert!(tasks.list.leave(tasks.tickets[2]).is_none());
        assert!(tasks.list.is_empty() && tasks.list.granted() == 0);
    }

    #[test]
    fn a_waker_is_replaced_until_room_is_granted() {
        let mut tasks = Tasks::new(1);
        let fresh: Arc<Count> = Arc::default();
        let old = tasks.list.update(tasks.tickets[0], &fresh.clone().into());
        assert!(old.is_some_and(|old| old.will_wake(&tasks.counts[0].clone().into())));
        tasks.grant(1);
        assert_eq!((tasks.woken(), fresh.0.load(Ordering::Relaxed)), (vec![0], 1));
        assert!(tasks.list.update(tasks.tickets[0], Waker::noop()).is_none());
    }

    #[test]
    fn a_task_that_found_no_room_after_all_keeps_its_place() {
        let mut tasks = Tasks::new(2);
        tasks.grant(1);
        let waker = tasks.counts[0].clone().into();
        tasks.list.wait_again(tasks.tickets[0], waker);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![1, 0], 0));
        tasks.grant(1);
        assert_eq!((tasks.woken(), tasks.list.granted()), (vec![1, 0], 1));
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
