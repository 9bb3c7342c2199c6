//! Two threads: the cost of a wake-up, and the throughput of messages.
//!
//! `cargo bench --bench wake` compares, in the same run and on two processors:
//! - a round trip between two threads that sleep in their rings, woken by `IORING_OP_MSG_RING`, by
//!   an `eventfd(2)` that the ring polls, by a `futex(2)` that it waits for, by corio's channels,
//!   or by corio's messages;
//! - a stream of messages in one direction, by corio's channel and by a crossbeam channel whose
//!   sender wakes the receiver's ring by an eventfd when it sleeps;
//! - the same for corio's messages and for `IORING_OP_MSG_RING` where the completions are the
//!   messages.

// # Why this file has `unsafe`
// The bare loops fill their rings by hand, and write to event counters.

mod support;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use corio::sync::messages::Message;
use corio::sync::mpsc::channel;
use corio::{Builder, Handle, IoContext};
use io_uring::{IoUring, opcode, squeue, types};
use support::{Sample, effort, paired, pin, thread_cpu};

fn ring() -> IoUring {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .build(8)
        .unwrap()
}

fn event_counter() -> OwnedFd {
    // SAFETY: no memory is passed, and the fd is new.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

fn write(counter: RawFd) {
    let one = 1_u64;
    // SAFETY: eight readable bytes.
    let written = unsafe { libc::write(counter, (&raw const one).cast(), 8) };
    assert_eq!(written, 8);
}

/// How the threads of a bare round trip wake each other.
#[derive(Clone, Copy, PartialEq)]
enum Bell {
    /// Submitted at once.
    MsgRing,
    /// Submitted by the call that waits for the answer.
    MsgRingWithWait,
    EventFd,
    /// The sleeper's ring waits for a word of memory (`IORING_OP_FUTEX_WAIT`, Linux 6.7).
    Futex,
}

const MINE: u64 = 1;
const RUNG: u64 = 2;

/// Takes completions until the bell has rung once.
fn await_bell(ring: &mut IoUring) {
    loop {
        let mut rung = 0;
        for entry in ring.completion() {
            // A futex may have changed before the ring looked at it.
            let result = entry.result();
            assert!(result >= 0 || result == -libc::EAGAIN, "{result}");
            rung += u32::from(entry.user_data() == RUNG);
        }
        if rung > 0 {
            assert_eq!(rung, 1);
            return;
        }
        ring.submit_and_wait(1).unwrap();
    }
}

/// Queues the entry that waits until `word` is no longer `seen`.
fn await_change(ring: &mut IoUring, word: &AtomicU32, seen: u32) {
    const SIZE_U32: u32 = 2; // FUTEX2_SIZE_U32
    const PRIVATE: u32 = 128; // FUTEX2_PRIVATE
    let any = u32::MAX.into(); // FUTEX_BITSET_MATCH_ANY
    let wait = opcode::FutexWait::new(word.as_ptr(), seen.into(), any, SIZE_U32 | PRIVATE);
    // SAFETY: the word is both sides' until they have ended.
    unsafe { ring.submission().push(&wait.build().user_data(RUNG)).unwrap() };
}

fn change(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    // SAFETY: names a word that is there.
    let woken = unsafe {
        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, word.as_ptr(), wake, 1)
    };
    assert!(woken >= 0);
}

/// Returns the entry that posts a completion to another ring.
fn message(ring: RawFd, result: i32, user_data: u64) -> squeue::Entry {
    opcode::MsgRingData::new(types::Fd(ring), result, user_data, None)
        .build()
        .user_data(MINE)
        .flags(squeue::Flags::SKIP_SUCCESS)
}

fn bare_side(bell: Bell, cpu: usize, count: u64, meet: &Meet, first: bool) -> Sample {
    pin(cpu);
    let mut ring = ring();
    let counter = event_counter();
    if bell == Bell::EventFd {
        let poll = opcode::PollAdd::new(types::Fd(counter.as_raw_fd()), libc::POLLIN as u32);
        // SAFETY: a poll names no memory.
        unsafe { ring.submission().push(&poll.multi(true).build().user_data(RUNG)).unwrap() };
        ring.submit().unwrap();
    }
    let other = meet.exchange(first, ring.as_raw_fd(), counter.as_raw_fd());
    let (wall, cpu) = (Instant::now(), thread_cpu());
    let (mine, others) = (&meet.words[usize::from(first)], &meet.words[usize::from(!first)]);
    let mut seen = 0;
    let mut await_ring = |ring: &mut IoUring| {
        if bell == Bell::Futex {
            await_change(ring, mine, seen);
            seen += 1;
        }
        await_bell(ring);
    };
    for turn in 0..count {
        if !first || turn > 0 {
            await_ring(&mut ring);
        }
        match bell {
            Bell::Futex => change(others),
            Bell::EventFd => write(other.counter),
            Bell::MsgRing | Bell::MsgRingWithWait => {
                // SAFETY: a message names no memory.
                unsafe { ring.submission().push(&message(other.ring, 0, RUNG)).unwrap() };
                if bell == Bell::MsgRing {
                    ring.submit().unwrap();
                }
            }
        }
    }
    if first {
        await_ring(&mut ring);
    } else {
        ring.submit().unwrap();
    }
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    // The other side may still ring the bell.
    meet.barrier.wait();
    sample
}

/// Where two threads exchange their fds.
struct Meet {
    barrier: Barrier,
    fds: [std::sync::Mutex<(RawFd, RawFd)>; 2],
    words: [AtomicU32; 2],
}

struct Other {
    ring: RawFd,
    counter: RawFd,
}

impl Meet {
    fn new() -> Arc<Self> {
        Arc::new(Meet {
            barrier: Barrier::new(2),
            fds: Default::default(),
            words: Default::default(),
        })
    }

    fn exchange(&self, first: bool, ring: RawFd, counter: RawFd) -> Other {
        *self.fds[usize::from(first)].lock().unwrap() = (ring, counter);
        self.barrier.wait();
        let (ring, counter) = *self.fds[usize::from(!first)].lock().unwrap();
        Other { ring, counter }
    }
}

fn bare_round_trips(bell: Bell, count: u64) -> Sample {
    let meet = Meet::new();
    let there = meet.clone();
    let other = thread::spawn(move || bare_side(bell, 1, count, &there, false));
    let sample = bare_side(bell, 0, count, &meet, true);
    other.join().unwrap();
    sample
}

fn corio_round_trips(builder: Builder, count: u64) -> Sample {
    let (to, mut from_here) = channel::<u64>(1);
    let (back, mut from_there) = channel::<u64>(1);
    let barrier = Arc::new(Barrier::new(2));
    let (there, same) = (barrier.clone(), builder.clone());
    let other = thread::spawn(move || {
        pin(1);
        let mut context = same.build().unwrap();
        there.wait();
        context.block_on(async {
            while let Some(value) = from_here.recv().await {
                back.send(value).await.unwrap();
            }
        });
    });
    pin(0);
    let mut context = builder.build().unwrap();
    barrier.wait();
    let (wall, cpu) = (Instant::now(), thread_cpu());
    context.block_on(async move {
        for turn in 0..count {
            to.send(turn).await.unwrap();
            assert_eq!(from_there.recv().await, Some(turn));
        }
    });
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    other.join().unwrap();
    sample
}

/// The same by raw messages between contexts, without a channel.
fn message_round_trips(count: u64) -> Sample {
    async fn answer(to: Handle, count: u64) {
        let mut messages = corio::messages();
        for turn in 0..count {
            assert_eq!(messages.next().await, Some(Message { tag: 1, value: turn }));
            to.send_message(2, turn).await.unwrap();
        }
    }
    pin(0);
    let mut context = IoContext::new(8).unwrap();
    let here = context.handle();
    let (tell, told) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        pin(1);
        let mut context = IoContext::new(8).unwrap();
        tell.send(context.handle()).unwrap();
        context.block_on(answer(here, count));
    });
    let there = told.recv().unwrap();
    let (wall, cpu) = (Instant::now(), thread_cpu());
    context.block_on(async move {
        let mut messages = corio::messages();
        for value in 0..count {
            there.send_message(1, value).await.unwrap();
            assert_eq!(messages.next().await, Some(Message { tag: 2, value }));
        }
    });
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    other.join().unwrap();
    sample
}

const ROOM: usize = 1024;

fn corio_stream(count: u64) -> Sample {
    let (sender, mut receiver) = channel::<u64>(ROOM);
    let other = thread::spawn(move || {
        pin(1);
        let mut context = IoContext::new(8).unwrap();
        context.block_on(async {
            for value in 0..count {
                sender.send(value).await.unwrap();
            }
        });
    });
    pin(0);
    let mut context = IoContext::new(8).unwrap();
    let (wall, cpu) = (Instant::now(), thread_cpu());
    context.block_on(async move {
        for value in 0..count {
            assert_eq!(receiver.recv().await, Some(value));
        }
    });
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    other.join().unwrap();
    sample
}

/// A channel of crossbeam, with an eventfd that wakes a receiver which sleeps in its ring.
fn crossbeam_stream(count: u64) -> Sample {
    let (sender, receiver) = crossbeam_channel::bounded::<u64>(ROOM);
    let counter = event_counter();
    let asleep = Arc::new(AtomicBool::new(false));
    let (bell, sleeper) = (counter.as_raw_fd(), asleep.clone());
    let other = thread::spawn(move || {
        pin(1);
        for value in 0..count {
            sender.send(value).unwrap();
            if sleeper.load(Ordering::SeqCst) && sleeper.swap(false, Ordering::SeqCst) {
                write(bell);
            }
        }
    });
    pin(0);
    let mut ring = ring();
    let poll = opcode::PollAdd::new(types::Fd(counter.as_raw_fd()), libc::POLLIN as u32);
    // SAFETY: a poll names no memory.
    unsafe { ring.submission().push(&poll.multi(true).build().user_data(RUNG)).unwrap() };
    let (wall, cpu) = (Instant::now(), thread_cpu());
    let mut next = 0;
    while next < count {
        while let Ok(value) = receiver.try_recv() {
            assert_eq!(value, next);
            next += 1;
        }
        asleep.store(true, Ordering::SeqCst);
        if next < count && receiver.is_empty() {
            ring.submit_and_wait(1).unwrap();
        }
        asleep.store(false, Ordering::SeqCst);
        ring.completion().for_each(drop);
    }
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    other.join().unwrap();
    sample
}

/// Sends raw messages in one direction, by the context's handle.
fn message_stream(count: u64) -> Sample {
    pin(0);
    let mut context = IoContext::new(8).unwrap();
    let handle = context.handle();
    let other = thread::spawn(move || {
        pin(1);
        let mut context = IoContext::new(8).unwrap();
        context.block_on(async {
            for value in 0..count {
                handle.send_message(0, value).await.unwrap();
            }
        });
    });
    let (wall, cpu) = (Instant::now(), thread_cpu());
    context.block_on(async move {
        let mut messages = corio::messages();
        for value in 0..count {
            assert_eq!(messages.next().await, Some(Message { tag: 0, value }));
        }
    });
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    other.join().unwrap();
    sample
}

/// The same by bare loops, where each message is a completion in the receiver's ring: up to `batch`
/// are submitted by one call, and the receiver reports its progress, so that at most `ROOM` are in
/// flight.
fn ring_stream(count: u64, batch: u64) -> Sample {
    const ACKNOWLEDGED: u64 = ROOM as u64 / 4;
    let ring = || -> IoUring {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(2 * ROOM as u32)
            .build(ROOM as u32)
            .unwrap()
    };
    let meet = Meet::new();
    let there = meet.clone();
    let other = thread::spawn(move || {
        pin(1);
        let mut ring = ring();
        let receiver = there.exchange(false, ring.as_raw_fd(), -1).ring;
        let (mut next, mut received) = (0, 0);
        while next < count {
            let room = (received + ROOM as u64).min(count) - next;
            for value in next..next + room.min(batch) {
                // SAFETY: a message names no memory.
                unsafe { ring.submission().push(&message(receiver, 0, value)).unwrap() };
            }
            next += room.min(batch);
            ring.submit_and_wait(usize::from(room == 0)).unwrap();
            for entry in ring.completion() {
                assert_eq!(entry.user_data(), RUNG, "{}", entry.result());
                received += ACKNOWLEDGED;
            }
        }
        there.barrier.wait();
    });
    pin(0);
    let mut ring = ring();
    let sender = meet.exchange(true, ring.as_raw_fd(), -1).ring;
    let (wall, cpu) = (Instant::now(), thread_cpu());
    let mut next = 0;
    while next < count {
        ring.submit_and_wait(1).unwrap();
        let mut acknowledged = 0;
        for entry in ring.completion() {
            assert_eq!(entry.user_data(), next, "{}", entry.result());
            next += 1;
            acknowledged += u64::from(next % ACKNOWLEDGED == 0);
        }
        for _ in 0..acknowledged {
            // SAFETY: as above.
            unsafe { ring.submission().push(&message(sender, 0, RUNG)).unwrap() };
        }
    }
    ring.submit().unwrap();
    let sample = Sample::new(count, wall.elapsed(), thread_cpu() - cpu);
    meet.barrier.wait();
    other.join().unwrap();
    sample
}

fn main() {
    let (rounds, length) = effort();
    let trips = length.as_micros() as u64 / 20;
    let messages = length.as_nanos() as u64 / 200;
    println!("round trips; the second of each pair is woken by an eventfd");
    let bare = |bell| move || bare_round_trips(bell, trips);
    paired("MSG_RING, bare", rounds, bare(Bell::MsgRing), bare(Bell::EventFd));
    paired("futex, bare", rounds, bare(Bell::Futex), bare(Bell::EventFd));
    let corio = |builder: Builder| move || corio_round_trips(builder.clone(), trips);
    let plain = IoContext::builder();
    paired("corio's channels", rounds, corio(plain.clone()), bare(Bell::EventFd));
    println!("the same; the second is IORING_OP_MSG_RING, bare, submitted by the call that waits");
    let with_wait = || bare_round_trips(Bell::MsgRingWithWait, trips);
    paired("MSG_RING, bare, submitted at once", rounds, bare(Bell::MsgRing), with_wait);
    paired("corio's messages", rounds, || message_round_trips(trips), with_wait);
    println!("the same on contexts that busy-poll before they sleep, beside contexts that don't");
    for limit in [Duration::from_micros(50), Duration::from_millis(1)] {
        let busy = plain.clone().busy_poll(limit);
        let name = format!("busy polling, at most {limit:?}");
        paired(&name, rounds, corio(busy), corio(plain.clone()));
    }
    println!("messages in one direction; the second is crossbeam-channel and an eventfd");
    paired("corio's channel", rounds, || corio_stream(messages), || crossbeam_stream(messages));
    println!("messages in one direction; the second are completions, written by bare rings");
    for batch in [1, 16, 256] {
        let name = format!("corio's messages, completions by {batch}");
        paired(&name, rounds, || message_stream(messages), || ring_stream(messages / 8, batch));
    }
}
