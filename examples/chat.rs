//! Chat rooms across workers: what one says in a room, all others in it hear, until Ctrl-C.
//!
//! The first line that a client sends is the room, each further one a message. Try it:
//! `cargo run --example chat`, and in several terminals `nc 127.0.0.1 7000`.
//!
//! Each worker knows the members that are connected to it, and nobody else; a message goes once to each
//! worker, by a channel, and from there to the members. Someone who does not read what is said is
//! dropped, rather than holding up the room.

#[path = "common/serving.rs"]
mod serving;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use clap::Parser;
use corio::net::Stream;
use corio::race;
use corio::server::{ConnectionContext, Server};
use corio::sync::local::mpsc;
use corio::sync::mpsc::{Receiver, Sender, channel};
use serving::{Serving, StopSignals};

/// The longest line, in bytes.
const LONGEST: usize = 4096;

/// How many messages may wait for a slow member, and how many for a busy worker.
const POLL_BUDGET: (usize, usize) = (64, 1024);

/// Chat rooms.
#[derive(Parser)]
struct Args {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:7000")]
    addr: String,

    #[command(flatten)]
    serving: Serving,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Something that was said.
#[derive(Clone)]
struct Message {
    room: Arc<str>,
    text: Arc<[u8]>,
    /// Worker and number of who said it.
    from: (usize, u64),
}

/// Those who are in a room, by their number.
type Members = HashMap<u64, mpsc::Sender<Arc<[u8]>>>;

/// One worker's part of all rooms.
struct Rooms {
    worker: usize,
    members: RefCell<HashMap<Arc<str>, Members>>,
    next: Cell<u64>,
    workers: Vec<Sender<Message>>,
}

impl Rooms {
    /// Tells the members that are here. Those who do not keep up are dropped.
    fn tell(&self, message: &Message) {
        let mut rooms = self.members.borrow_mut();
        let Some(members) = rooms.get_mut(&message.room) else { return };
        members.retain(|&id, member| {
            (self.worker, id) == message.from || member.try_send(message.text.clone()).is_ok()
        });
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let workers = args.serving.workers().name("chat");
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..args.serving.count()).map(|_| channel::<Message>(POLL_BUDGET.1)).unzip();
    let receivers = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>()));
    let server = Server::builder()
        .listen(args.addr.as_str())
        .workers(workers.count(senders.len()))
        .grace_period(args.serving.grace_period())
        .start(
            move |worker| {
                let rooms = Rc::new(Rooms {
                    worker: worker.index(),
                    members: RefCell::default(),
                    next: Cell::new(0),
                    workers: senders.clone(),
                });
                let receiver = receivers.lock().ok().and_then(|mut all| all[worker.index()].take());
                if let Some(receiver) = receiver {
                    corio::spawn(hear(rooms.clone(), receiver));
                }
                rooms
            },
            serve,
        )?;
    signals.serve(server)?;
    Ok(())
}

/// What comes from all workers, this one included, goes to the members here.
async fn hear(rooms: Rc<Rooms>, mut receiver: Receiver<Message>) {
    while let Some(message) = receiver.recv().await {
        rooms.tell(&message);
    }
}

async fn serve(stream: Stream, ctx: ConnectionContext<Rc<Rooms>>) -> io::Result<()> {
    let rooms = ctx.state();
    let mut lines = Lines { stream: &stream, buf: Vec::with_capacity(LONGEST), used: 0 };
    let Some(name) = lines.next().await? else { return Ok(()) };
    let room: Arc<str> = String::from_utf8_lossy(&name).trim().into();
    let id = rooms.next.replace(rooms.next.get() + 1);
    let (sender, mut heard) = mpsc::channel(POLL_BUDGET.0);
    rooms.members.borrow_mut().entry(room.clone()).or_default().insert(id, sender);
    let _member = Member { rooms, room: room.clone(), id };

    let speak = async {
        while let Some(text) = lines.next().await? {
            let message =
                Message { room: room.clone(), text: text.into(), from: (rooms.worker, id) };
            for worker in &rooms.workers {
                // A worker that has ended has no members.
                let _ = worker.send(message.clone()).await;
            }
        }
        Ok(())
    };
    let listen = async {
        while let Some(text) = heard.recv().await {
            stream.send_all(text.to_vec()).await.0?;
        }
        Err(io::Error::other("too slow for the room"))
    };
    // Either ends it: the client's last word, or its not listening; or the server.
    let conversation = race(speak, listen);
    match race(conversation, ctx.stopping()).await {
        corio::RaceOutput::First(
            corio::RaceOutput::First(result, _) | corio::RaceOutput::Second(_, result),
            _,
        ) => result,
        corio::RaceOutput::Second(..) => Ok(()),
    }
}

/// Somebody in a room, until dropped.
struct Member<'a> {
    rooms: &'a Rooms,
    room: Arc<str>,
    id: u64,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut rooms = self.rooms.members.borrow_mut();
        if let Some(members) = rooms.get_mut(&self.room) {
            members.remove(&self.id);
            if members.is_empty() {
                rooms.remove(&self.room);
            }
        }
    }
}

/// Lines of a stream.
struct Lines<'a> {
    stream: &'a Stream,
    buf: Vec<u8>,
    used: usize,
}

impl Lines<'_> {
    /// The next line with its end; `None` when there are no more. An unfinished one counts for nothing.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.buf[self.used..];
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest[..=end].to_vec();
                self.used += end + 1;
                return Ok(Some(line));
            }
            if rest.len() >= LONGEST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
            }
            self.buf.drain(..self.used);
            self.used = 0;
            let len = self.buf.len();
            self.buf.reserve(LONGEST);
            use corio::buf::IoBuf;
            let (result, part) = self.stream.recv(std::mem::take(&mut self.buf).slice(len..)).await;
            self.buf = part.into_inner();
            if result? == 0 {
                return Ok(None);
            }
        }
    }
}
