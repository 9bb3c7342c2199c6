//! Connections that live for one exchange.

// # Why this file has `unsafe`
// It queues entries that point to memory.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use io_uring::{opcode, types};
use socket2::{Domain, SockAddr, Socket, Type};

use super::ring::{ring, wait};
use super::tally::{Outcome, Tally, Until};
use crate::system;

const CONNECT: u64 = 0;
const SEND: u64 = 1;

struct Slot {
    socket: Socket,
    buffer: [u8; 64],
    since: Instant,
}

fn open() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    system::control_congestion(&socket)?;
    // Close by a reset: otherwise the port stays in TIME_WAIT.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

/// Connects, sends, receives and closes, `at_once` at a time.
pub(crate) fn churn(address: SocketAddr, at_once: usize, until: Until) -> Result<Outcome> {
    let now = Instant::now();
    let mut slots = (0..at_once)
        .map(|_| Ok(Slot { socket: open()?, buffer: [0; 64], since: now }))
        .collect::<Result<Vec<_>>>()?;
    let outcome = exchange(SockAddr::from(address), &mut slots, until);
    if outcome.is_err() {
        // Entries in flight may still point to the buffers.
        std::mem::forget(slots);
    }
    outcome
}

static REQUEST: [u8; 64] = [7; 64];

fn exchange(address: SockAddr, slots: &mut [Slot], until: Until) -> Result<Outcome> {
    let mut ring = ring(slots.len())?;
    // Leaked, as connects in flight point to it.
    let address: &'static SockAddr = Box::leak(Box::new(address));
    let mut tally = Tally::start();
    let connect = |index: usize, slot: &Slot| {
        let fd = types::Fd(slot.socket.as_raw_fd());
        opcode::Connect::new(fd, address.as_ptr().cast(), address.len())
            .build()
            .user_data(index as u64 * 4 + CONNECT)
    };
    let mut next = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        if tally.may_send(until, tally.start) {
            next.push(connect(index, slot));
        }
    }
    let mut in_flight = 0;
    loop {
        for entry in next.drain(..) {
            // SAFETY: the address and the request are static. The slots live until nothing is in
            // flight; after an error the caller leaks them.
            unsafe { ring.submission().push(&entry) }
                .expect("the ring has room for two entries per slot");
            in_flight += 1;
        }
        if in_flight == 0 {
            return Ok(tally.outcome());
        }
        wait(&ring)?;
        let now = Instant::now();
        for completion in ring.completion() {
            in_flight -= 1;
            let (index, step) = (completion.user_data() as usize / 4, completion.user_data() % 4);
            let slot = &mut slots[index];
            let fd = types::Fd(slot.socket.as_raw_fd());
            match step {
                CONNECT => {
                    ensure!(
                        completion.result() == 0,
                        "connect failed: {}",
                        std::io::Error::from_raw_os_error(-completion.result())
                    );
                    let send = opcode::Send::new(fd, REQUEST.as_ptr(), 64).build();
                    next.push(send.user_data(index as u64 * 4 + SEND));
                }
                SEND => {
                    ensure!(
                        completion.result() == 64,
                        "sent {} bytes of a request of 64 bytes",
                        completion.result()
                    );
                    let receive = opcode::Recv::new(fd, slot.buffer.as_mut_ptr(), 64)
                        .flags(libc::MSG_WAITALL)
                        .build();
                    next.push(receive.user_data(index as u64 * 4 + SEND + 1));
                }
                _ => {
                    ensure!(
                        completion.result() == 64,
                        "an answer of {} bytes instead of 64",
                        completion.result()
                    );
                    ensure!(slot.buffer == REQUEST, "the answer differs from the request");
                    tally.record(now - slot.since);
                    if tally.may_send(until, now) {
                        *slot = Slot { socket: open()?, buffer: [0; 64], since: now };
                        next.push(connect(index, slot));
                    }
                }
            }
        }
    }
}
