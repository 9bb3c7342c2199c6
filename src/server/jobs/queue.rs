//! The queue that workers take jobs from: who brings, who waits for room, who is idle.
//!
//! One lock, as jobs are coarse. What must not be lost is a wake, and none is, because of two rules
//! that hold whenever the lock is free:
//! - *Jobs and the idle.* If anybody is idle, then at least as many have been woken, and have not
//!   looked yet, as there are jobs. For whoever looks becomes idle only if there is no job, under
//!   the same lock; whoever brings a job wakes somebody who is idle; whoever was woken takes a job,
//!   if there is one; and whoever was woken and goes without a look wakes another.
//! - *Room and those who wait for it.* Each place that becomes free is promised, in order, to one
//!   who waits, and counts as taken from then on. Who goes without using it gives it back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::runtime::Runtime;
use crate::runtime::remote::Remote;
use crate::runtime::sync::{Mutex, MutexGuard, lock};

/// See the module's page.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    limit: usize,
}

/// The job is refused: the queue is closed, or all who served are gone.
pub(super) struct Refused;

struct State<J> {
    jobs: VecDeque<(u64, J)>,
    /// Numbers jobs, tickets and servers.
    next: u64,
    waiting: VecDeque<Waiting>,
    /// Places that were given to those who wait, and are not taken yet.
    promised: usize,
    idle: Vec<Idle>,
    /// How many serve, or are about to.
    attending: usize,
    /// Somebody has served.
    attended: bool,
    closed: bool,
}

/// Somebody who waits for room.
struct Waiting {
    ticket: u64,
    /// `None`: there is a place for it.
    waker: Option<Waker>,
}

/// Somebody who serves and found nothing to do.
struct Idle {
    server: u64,
    waker: Waker,
    context: Arc<Remote>,
}

impl<J> State<J> {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn refuses(&self) -> bool {
        self.closed || (self.attended && self.attending == 0)
    }

    /// Promises free places to those who wait.
    fn grant(&mut self, limit: usize, wakers: &mut Vec<Waker>) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.waker.is_some()) {
            if self.jobs.len() + self.promised >= limit {
                return;
            }
            self.promised += 1;
            wakers.extend(waiting.waker.take());
        }
    }

    /// If there are jobs, has somebody look who is idle: one whose context sleeps, for it has
    /// nothing else to do. If none sleeps, all of them, which costs no system call: whoever comes
    /// round first takes the job, so the busier take fewer.
    fn wake(&mut self, wakers: &mut Vec<Waker>) {
        if self.jobs.is_empty() {
            return;
        }
        let own = Runtime::try_with(|runtime| runtime.map(|runtime| Arc::as_ptr(&runtime.remote)));
        let sleeps =
            |idle: &Idle| own != Some(Arc::as_ptr(&idle.context)) && idle.context.is_asleep();
        match self.idle.iter().position(sleeps) {
            Some(place) => wakers.push(self.idle.remove(place).waker),
            None => wakers.extend(self.idle.drain(..).map(|idle| idle.waker)),
        }
    }

    /// Gives up what is queued, and turns away who waits.
    fn give_up(&mut self, wakers: &mut Vec<Waker>) -> VecDeque<(u64, J)> {
        let waiting = self.waiting.iter_mut().filter_map(|waiting| waiting.waker.take());
        let before = wakers.len();
        wakers.extend(waiting);
        // Each has a place by that, which it gives back when it sees that it is refused.
        self.promised += wakers.len() - before;
        wakers.extend(self.idle.drain(..).map(|idle| idle.waker));
        std::mem::take(&mut self.jobs)
    }
}

impl<J> Queue<J> {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let state = State {
            jobs: VecDeque::new(),
            next: 0,
            waiting: VecDeque::new(),
            promised: 0,
            idle: Vec::new(),
            attending: 0,
            attended: false,
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

    pub(super) fn refuses(&self) -> bool {
        self.lock().refuses()
    }

    /// Waits for a place, in order. The caller uses it at once, by [`push`](Self::push).
    pub(super) fn room(&self) -> Room<'_, J> {
        Room { queue: self, ticket: None }
    }

    /// Puts a job into a place that the caller was given by [`room`](Self::room).
    pub(super) fn push(&self, job: J) -> Result<u64, Refused> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.promised -= 1;
        if state.refuses() {
            drop(state);
            drop(job);
            return Err(Refused);
        }
        let number = state.number();
        state.jobs.push_back((number, job));
        state.wake(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(number)
    }

    /// Takes a job back that nobody has taken.
    pub(super) fn remove(&self, number: u64) -> Option<J> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let place = state.jobs.binary_search_by_key(&number, |job| job.0).ok()?;
        let job = state.jobs.remove(place);
        state.grant(self.limit, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        job.map(|(_, job)| job)
    }

    /// Refuses jobs from now on, and drops those that nobody has taken.
    pub(super) fn close(&self) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.closed = true;
        let jobs = state.give_up(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(jobs);
    }

    /// Says that somebody serves, or will.
    pub(super) fn attend(self: &Arc<Self>) -> Attendance<J> {
        let mut state = self.lock();
        state.attending += 1;
        state.attended = true;
        drop(state);
        Attendance(self.clone())
    }

    pub(super) fn serve(self: &Arc<Self>) -> Server<J> {
        let attendance = self.attend();
        let number = self.lock().number();
        Server { attendance, number }
    }
}

/// Somebody serves, or will. When the last of these goes, whoever waits for a job is told.
pub(crate) struct Attendance<J>(Arc<Queue<J>>);

impl<J> Drop for Attendance<J> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        state.attending -= 1;
        if state.attending > 0 {
            return;
        }
        let jobs = state.give_up(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(jobs);
    }
}

/// Somebody who takes jobs.
pub(super) struct Server<J> {
    attendance: Attendance<J>,
    number: u64,
}

impl<J> Server<J> {
    /// The next job, in order, or `None` when the queue is closed. Whoever is given none is idle,
    /// on the context `context`, until woken.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        context: &Arc<Remote>,
    ) -> Poll<Option<J>> {
        let queue = &self.attendance.0;
        let mut wakers = Vec::new();
        let mut state = queue.lock();
        let entry = state.idle.iter().position(|idle| idle.server == self.number);
        let old = entry.map(|entry| state.idle.remove(entry));
        let taken = match state.jobs.pop_front() {
            Some((_, job)) => {
                state.grant(queue.limit, &mut wakers);
                Poll::Ready(Some(job))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                let (waker, context) = (cx.waker().clone(), context.clone());
                state.idle.push(Idle { server: self.number, waker, context });
                Poll::Pending
            }
        };
        drop(state);
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
        taken
    }
}

impl<J> Drop for Server<J> {
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.attendance.0.lock();
        let entry = state.idle.iter().position(|idle| idle.server == self.number);
        let old = entry.map(|entry| state.idle.remove(entry));
        // It may have been woken for a job that it does not take now.
        state.wake(&mut wakers);
        drop(state);
        drop(old);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits for room; see [`Queue::room`].
pub(super) struct Room<'a, J> {
    queue: &'a Queue<J>,
    ticket: Option<u64>,
}

impl<J> Future for Room<'_, J> {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let queue = self.queue;
        let mut state = queue.lock();
        if state.refuses() {
            return Poll::Ready(Err(Refused));
        }
        let Some(ticket) = self.ticket else {
            // Room that is left is nobody's: those who wait have been given theirs.
            if state.jobs.len() + state.promised < queue.limit {
                state.promised += 1;
                return Poll::Ready(Ok(()));
            }
            let ticket = state.number();
            state.waiting.push_back(Waiting { ticket, waker: Some(cx.waker().clone()) });
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        let place = state.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket);
        let place = place.expect("who waits is on the list");
        if let Some(waker) = &mut state.waiting[place].waker {
            let old = std::mem::replace(waker, cx.waker().clone());
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        state.waiting.remove(place);
        self.ticket = None;
        Poll::Ready(Ok(()))
    }
}

impl<J> Drop for Room<'_, J> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut wakers = Vec::new();
        let mut state = self.queue.lock();
        let place = state.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket);
        let waiting = place.ok().and_then(|place| state.waiting.remove(place));
        if waiting.as_ref().is_some_and(|waiting| waiting.waker.is_none()) {
            state.promised -= 1;
        }
        state.grant(self.queue.limit, &mut wakers);
        drop(state);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
