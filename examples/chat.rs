//! Chat rooms across workers: each line that a member sends goes to all others in the room, until
//! Ctrl-C.
//!
//! The first line that a client sends is the room's name, each further one a message. Try it:
//! `cargo run --example chat`, and in several terminals `nc 127.0.0.1 7000`.
//!
//! Each worker knows only the members that are connected to it. A message goes once to each worker,
//! by a channel, and from there to its members. A member may be some lines ahead of the slowest
//! other one in its room; then no more is received from it. A member that does not read its
//! messages is removed after a time limit, so that it does not block the room for ever.

#[path = "common/serving.rs"]
mod serving;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use corio::net::Stream;
use corio::server::{ConnectionContext, Server};
use corio::sync::local::mpsc;
use corio::sync::mpsc::{Receiver, Sender, channel};
use corio::{race, timeout};
use serving::{ServerOptions, StopSignals};

/// Longest line, in bytes.
const MAX_LINE: usize = 4096;

/// How many lines a member may be ahead of the slowest other member.
const WINDOW: usize = 64;

/// Messages that may be queued for a busy worker.
const WORKER_QUEUE: usize = 1024;

/// Chat server: the first line names the room, each further line is a message to it
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    /// How long a member may take to read a message before it is removed, or `never`
    #[arg(long, value_name = "SECONDS", default_value = "10", allow_negative_numbers = true,
          value_parser = serving::durations::limit)]
    patience: Duration,

    #[command(flatten)]
    options: ServerOptions,
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

/// A line that a member has sent.
#[derive(Clone)]
struct Message {
    room: Arc<str>,
    text: Arc<Text>,
    /// Worker and number of the sender.
    from: (usize, u64),
}

/// The bytes of a message, until all members have been sent them. This limits their queues:
/// no speaker has more than [`WINDOW`] of these.
struct Text {
    bytes: Vec<u8>,
    delivered: Sender<()>,
}

impl Drop for Text {
    fn drop(&mut self) {
        // It fails if the speaker has left.
        let _ = self.delivered.try_send(());
    }
}

/// The members of a room, by number.
type Members = HashMap<u64, mpsc::Sender<Arc<Text>>>;

/// The members of all rooms that are connected to one worker.
struct Rooms {
    worker: usize,
    members: RefCell<HashMap<Arc<str>, Members>>,
    next: Cell<u64>,
    workers: Vec<Sender<Message>>,
    patience: Duration,
}

impl Rooms {
    /// Queues `message` for this worker's members.
    fn deliver(&self, message: &Message) {
        let rooms = self.members.borrow();
        for (&id, member) in rooms.get(&message.room).into_iter().flatten() {
            if (self.worker, id) != message.from {
                // It fails if the member is leaving.
                let _ = member.try_send(message.text.clone());
            }
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..args.options.serving.count()).map(|_| channel::<Message>(WORKER_QUEUE)).unzip();
    let patience = args.patience;
    let receivers = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect::<Vec<_>>()));
    let server = args
        .options
        .apply(Server::builder().listen(args.addr.as_str()), "chat")
        .workers(args.options.serving.workers().name("chat").count(senders.len()))
        .start(
            move |worker| {
                let rooms = Rc::new(Rooms {
                    worker: worker.index(),
                    members: RefCell::default(),
                    next: Cell::new(0),
                    workers: senders.clone(),
                    patience,
                });
                let receiver = receivers.lock().ok().and_then(|mut all| all[worker.index()].take());
                if let Some(receiver) = receiver {
                    corio::spawn(forward(rooms.clone(), receiver));
                }
                rooms
            },
            serve,
        )?;
    signals.serve(server)?;
    Ok(())
}

/// Delivers the messages of all workers, this one included, to this worker's members.
async fn forward(rooms: Rc<Rooms>, mut receiver: Receiver<Message>) {
    while let Some(message) = receiver.recv().await {
        rooms.deliver(&message);
    }
}

async fn serve(stream: Stream, ctx: ConnectionContext<Rc<Rooms>>) -> io::Result<()> {
    let rooms = ctx.state();
    let mut lines = Lines { stream: &stream, buf: Vec::with_capacity(MAX_LINE), used: 0 };
    let Some(name) = lines.next().await? else { return Ok(()) };
    let room: Arc<str> = String::from_utf8_lossy(&name).trim().into();
    let id = rooms.next.replace(rooms.next.get() + 1);
    let (sender, mut messages) = mpsc::channel(usize::MAX);
    rooms.members.borrow_mut().entry(room.clone()).or_default().insert(id, sender);
    let _member = Member { rooms, room: room.clone(), id };

    let (delivered, mut deliveries) = channel(WINDOW);
    let speak = async {
        let mut undelivered = 0;
        while let Some(bytes) = lines.next().await? {
            if undelivered == WINDOW {
                // It gives a value: `delivered` exists as long as this.
                let _ = deliveries.recv().await;
                undelivered -= 1;
            }
            undelivered += 1;
            let text = Arc::new(Text { bytes, delivered: delivered.clone() });
            let message = Message { room: room.clone(), text, from: (rooms.worker, id) };
            for worker in &rooms.workers {
                // It fails when the worker has ended, and then has no members.
                let _ = worker.send(message.clone()).await;
            }
        }
        Ok(())
    };
    let listen = async {
        while let Some(text) = messages.recv().await {
            let sent = timeout(rooms.patience, stream.send_all(text.bytes.clone())).await;
            match sent {
                Ok((result, _)) => result?,
                Err(_) => break,
            };
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the member reads too slowly"))
    };
    // Ends when the client has ended its side, reads too slowly, or the server stops.
    let conversation = race(speak, listen);
    match race(conversation, ctx.stopping()).await {
        corio::RaceOutput::First(
            corio::RaceOutput::First(result, _) | corio::RaceOutput::Second(_, result),
            _,
        ) => result,
        corio::RaceOutput::Second(..) => Ok(()),
    }
}

/// A membership; dropping it leaves the room.
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

/// Reads a stream line by line.
struct Lines<'a> {
    stream: &'a Stream,
    buf: Vec<u8>,
    used: usize,
}

impl Lines<'_> {
    /// Returns the next line with its line end, or `None` at end of stream. A last line without a
    /// line end is ignored.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let rest = &self.buf[self.used..];
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line = rest[..=end].to_vec();
                self.used += end + 1;
                return Ok(Some(line));
            }
            if rest.len() >= MAX_LINE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the line is longer than {MAX_LINE} bytes"),
                ));
            }
            self.buf.drain(..self.used);
            self.used = 0;
            let len = self.buf.len();
            self.buf.reserve(MAX_LINE);
            use corio::buf::IoBuf;
            let (result, part) = self.stream.recv(std::mem::take(&mut self.buf).slice(len..)).await;
            self.buf = part.into_inner();
            if result? == 0 {
                return Ok(None);
            }
        }
    }
}
