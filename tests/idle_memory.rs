//! The heap that a server's idle connections take, and that it gives back after a burst of them.

// # Why this file has `unsafe`
// It is a global allocator that counts bytes.

mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicIsize, Ordering};

use corio::server::{Server, Workers};
use harness::{Driver, eventually};

struct Counting;

/// How many bytes this process has allocated and not freed.
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    // A block takes what was asked for and the allocator's own, rounded up (as in glibc).
    let block = (bytes + 8).next_multiple_of(16).max(32);
    BYTES.fetch_add(sign * block as isize, Ordering::Relaxed);
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: what the caller promises.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 1000;

fn clients(address: SocketAddr, number: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        client
    };
    (0..number).map(connect).collect()
}

/// Both in one test, as nothing else may allocate meanwhile.
#[test]
fn an_idle_connection_takes_little_memory_which_goes_back_after_a_burst() {
    for driver in [Driver::IoUring, Driver::Readiness].into_iter().filter(|driver| driver.is_here())
    {
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .raise_fd_limit(true)
            .workers(Workers::builder().count(1).pin(false).context(driver.builder()))
            .start(
                |_| (),
                |stream, _| async move {
                    let mut incoming = stream.recv_stream();
                    while let Some(buf) = incoming.recv().await? {
                        stream.send_all(buf).await.0?;
                    }
                    Ok(())
                },
            )
            .unwrap();
        let address = server.addresses()[0].as_inet().unwrap();
        let end = |clients: Vec<_>| {
            drop(clients);
            eventually("they have ended", || server.totals().active() == 0);
        };
        // What stays once it was needed: buffers, queues.
        end(clients(address, 8));
        let before = BYTES.load(Ordering::Relaxed);
        let idle = clients(address, CONNECTIONS);
        let each = (BYTES.load(Ordering::Relaxed) - before) / CONNECTIONS as isize;
        println!("{driver:?}: {each} bytes");
        // This driver has a table of fds; here it knows those of the clients, too.
        let most = if driver == Driver::Readiness { 980 } else { 850 };
        assert!(each <= most, "{driver:?}: an idle connection takes {each} bytes");
        end(idle);
        // A context keeps 256 KiB for the next tasks, and a table has room for 1000 connections.
        // The readiness driver's table of fds stays, too: 64 bytes for each.
        let stay = if driver == Driver::Readiness { 440 << 10 } else { 300 << 10 };
        eventually("memory goes back", || BYTES.load(Ordering::Relaxed) - before < stay);
        server.stop();
        server.join();
    }
}
