//! A bounded queue of jobs, with the producers that wait for a slot and the idle consumers.
//!
//! One lock, as jobs are coarse. No wake-up is lost, because two invariants hold whenever the lock
//! is free:
//! - *Jobs and idle consumers.* If a consumer is idle, at least as many consumers have been woken
//!   and have not looked at the queue yet as there are jobs. A consumer becomes idle only if it
//!   finds no job under the lock; a push wakes an idle consumer; a consumer that was woken takes a
//!   job if there is one; and a consumer that was woken and is dropped before it looks wakes
//!   another.
//! - *Slots and waiting producers.* A slot that becomes free is granted, in order, to a producer
//!   that waits, and counts as taken from then on. A producer that is dropped gives it back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::runtime::Runtime;
use crate::runtime::poll_budget::within_budget;
use crate::runtime::remote::Remote;
use crate::runtime::sync::{Mutex, MutexGuard, lock};
use crate::sync::wait_list::{Ticket, Turn, WaitList};

/// A bounded queue of jobs; see the module's page.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    limit: usize,
}

/// The queue is closed, or the last consumer is gone.
pub(super) struct Refused;

struct State<J> {
    /// In the order of their numbers.
    jobs: VecDeque<(u64, J)>,
    /// Numbers jobs and consumers.
    last_number: u64,
    /// Producers that wait for a slot.
    waiting: WaitList,
    /// Slots that producers have got from [`Queue::reserve`] and not used yet.
    reserved: usize,
    idle: Vec<IdleConsumer>,
    /// How many [`Registration`]s there are.
    consumers: usize,
    /// There has been a consumer.
    had_consumers: bool,
    closed: bool,
}

struct IdleConsumer {
    number: u64,
    waker: Waker,
    context: Arc<Remote>,
}

impl<J> State<J> {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn refuses(&self) -> bool {
        self.closed || (self.had_consumers && self.consumers == 0)
    }

    /// Grants free slots to waiting producers.
    fn grant_slots(&mut self, limit: usize, wakers: &mut Vec<Waker>) {
        self.waiting.grant(limit.saturating_sub(self.jobs.len() + self.reserved), wakers);
    }

    /// If there are jobs, wakes an idle consumer whose context sleeps, as it has nothing else to
    /// do. If none sleeps, wakes all of them, which costs no system call: the first to look takes
    /// the job, so busier contexts take fewer.
    fn wake_idle(&mut self, wakers: &mut Vec<Waker>) {
        if self.jobs.is_empty() {
            return;
        }
        let own = Runtime::try_with(|runtime| runtime.map(|runtime| Arc::as_ptr(&runtime.remote)));
        let sleeps = |idle: &IdleConsumer| {
            own != Some(Arc::as_ptr(&idle.context)) && idle.context.is_asleep()
        };
        match self.idle.iter().position(sleeps) {
            Some(place) => wakers.push(self.idle.remove(place).waker),
            None => wakers.extend(self.idle.drain(..).map(|idle| idle.waker)),
        }
    }

    fn remove_idle(&mut self, number: u64) -> Option<IdleConsumer> {
        let place = self.idle.iter().position(|idle| idle.number == number);
        place.map(|place| self.idle.remove(place))
    }

    /// Empties the queue, and wakes all producers and consumers, which then see that it refuses.
    fn abandon_all(&mut self, wakers: &mut Vec<Waker>) -> VecDeque<(u64, J)> {
        self.waiting.grant_all(wakers);
        wakers.extend(self.idle.drain(..).map(|idle| idle.waker));
        std::mem::take(&mut self.jobs)
    }
}

impl<J> Queue<J> {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let state = State {
            jobs: VecDeque::new(),
            last_number: 0,
            waiting: WaitList::new(),
            reserved: 0,
            idle: Vec::new(),
            consumers: 0,
            had_consumers: false,
            closed: false,
        };
        Arc::new(Queue { state: Mutex::new(state), limit: limit.max(1) })
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        lock(&self.state)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns `true` if the queue is closed, or the last consumer is gone.
    pub(super) fn refuses(&self) -> bool {
        self.lock().refuses()
    }

    /// Waits for a free slot, in order. The caller uses it at once, by [`push`](Self::push).
    pub(super) fn reserve(&self) -> ReserveSlot<'_, J> {
        ReserveSlot { queue: self, ticket: None }
    }

    /// Puts a job into a slot from [`reserve`](Self::reserve), and returns its number.
    pub(super) fn push(&self, job: J) -> Result<u64, Refused> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.reserved -= 1;
        if state.refuses() {
            drop(state);
            drop(job);
            return Err(Refused);
        }
        let number = state.next_number();
        state.jobs.push_back((number, job));
        state.wake_idle(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(number)
    }

    /// Takes a job back that no consumer has taken.
    pub(super) fn remove(&self, number: u64) -> Option<J> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let place = state.jobs.binary_search_by_key(&number, |job| job.0).ok()?;
        let job = state.jobs.remove(place);
        state.grant_slots(self.limit, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        job.map(|(_, job)| job)
    }

    /// Refuses further jobs, and drops those that no consumer has taken.
    pub(super) fn close(&self) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.closed = true;
        let jobs = state.abandon_all(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(jobs);
    }

    /// Counts one more consumer, present or about to come.
    pub(super) fn register(self: &Arc<Self>) -> Registration<J> {
        let mut state = self.lock();
        state.consumers += 1;
        state.had_consumers = true;
        drop(state);
        Registration(self.clone())
    }

    pub(super) fn consumer(self: &Arc<Self>) -> Consumer<J> {
        let registration = self.register();
        let number = self.lock().next_number();
        Consumer { registration, number }
    }
}

/// Counts as a consumer until dropped. When the last one goes, the queue refuses jobs.
pub(crate) struct Registration<J>(Arc<Queue<J>>);

impl<J> Drop for Registration<J> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        state.consumers -= 1;
        if state.consumers > 0 {
            return;
        }
        let jobs = state.abandon_all(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(jobs);
    }
}

/// Takes jobs from a queue.
pub(super) struct Consumer<J> {
    registration: Registration<J>,
    number: u64,
}

impl<J> Consumer<J> {
    /// Takes the oldest job; `None` when the queue is closed. While there is none, this consumer is
    /// idle, on the context `context`, until it is woken.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        context: &Arc<Remote>,
    ) -> Poll<Option<J>> {
        let queue = &self.registration.0;
        let mut wakers = Vec::new();
        let mut state = queue.lock();
        let old = state.remove_idle(self.number);
        let taken = match state.jobs.pop_front() {
            Some((_, job)) => {
                state.grant_slots(queue.limit, &mut wakers);
                Poll::Ready(Some(job))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                let (waker, context) = (cx.waker().clone(), context.clone());
                state.idle.push(IdleConsumer { number: self.number, waker, context });
                Poll::Pending
            }
        };
        drop(state);
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
        taken
    }
}

impl<J> Drop for Consumer<J> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.registration.0.lock();
        let old = state.remove_idle(self.number);
        // It may have been woken for a job that it does not take now.
        state.wake_idle(&mut wakers);
        drop(state);
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The future returned by [`Queue::reserve`]: waits for a free slot.
pub(super) struct ReserveSlot<'a, J> {
    queue: &'a Queue<J>,
    ticket: Option<Ticket>,
}

impl<J> Future for ReserveSlot<'_, J> {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ticket.is_some() {
            return self.wait(cx);
        }
        within_budget(cx, |cx| self.wait(cx))
    }
}

impl<J> ReserveSlot<'_, J> {
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        let queue = self.queue;
        let mut state = queue.lock();
        if state.refuses() {
            return Poll::Ready(Err(Refused));
        }
        let room = queue.limit.saturating_sub(state.jobs.len() + state.reserved);
        let mut wakers = Vec::new();
        if self.ticket.is_some() || room <= state.waiting.granted() {
            match state.waiting.poll(&mut self.ticket, cx.waker(), room, &mut wakers) {
                Turn::Granted(ticket) => {
                    state.waiting.leave(ticket);
                    self.ticket = None;
                }
                Turn::Waits(waits) => {
                    drop(state);
                    waits.wake(wakers, cx.waker());
                    return Poll::Pending;
                }
            }
        }
        // A slot granted to this producer; or a free one, which no other waits for: those that
        // wait have been granted theirs.
        state.reserved += 1;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl<J> Drop for ReserveSlot<'_, J> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut wakers = Vec::new();
        let mut state = self.queue.lock();
        let waker = state.waiting.leave(ticket);
        state.grant_slots(self.queue.limit, &mut wakers);
        drop(state);
        drop(waker);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
