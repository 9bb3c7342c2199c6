//! Chat rooms across workers: each line that a member sends goes to all others in the room, until
//! Ctrl-C.
//!
//! The first line that a client sends is the room's name, each further one a message. Try it:
//! `cargo run --example chat`, and in several terminals `nc 127.0.0.1 7000`.
//!
//! Each worker knows only the members that are connected to it. A message goes once to each worker,
//! by a channel, and from there to its members. A member that does not read its messages is
//! removed, so that it does not block the room.

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
use serving::{ServerOptions, StopSignals};

/// Longest line, in bytes.
const MAX_LINE: usize = 4096;

/// Messages that may be queued for a slow member.
const MEMBER_QUEUE: usize = 64;

/// Messages that may be queued for a busy worker.
const WORKER_QUEUE: usize = 1024;

/// Chat server: the first line names the room, each further line is a message to it
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

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
    text: Arc<[u8]>,
    /// Worker and number of the sender.
    from: (usize, u64),
}

/// The members of a room, by number.
type Members = HashMap<u64, mpsc::Sender<Arc<[u8]>>>;

/// The members of all rooms that are connected to one worker.
struct Rooms {
    worker: usize,
    members: RefCell<HashMap<Arc<str>, Members>>,
    next: Cell<u64>,
    workers: Vec<Sender<Message>>,
}

impl Rooms {
    /// Sends `message` to this worker's members. Those whose queue is full are removed.
    fn deliver(&self, message: &Message) {
        let mut rooms = self.members.borrow_mut();
        let Some(members) = rooms.get_mut(&message.room) else { return };
        members.retain(|&id, member| {
            (self.worker, id) == message.from || member.try_send(message.text.clone()).is_ok()
        });
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let signals = StopSignals::new()?;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..args.options.serving.count()).map(|_| channel::<Message>(WORKER_QUEUE)).unzip();
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
    let (sender, mut messages) = mpsc::channel(MEMBER_QUEUE);
    rooms.members.borrow_mut().entry(room.clone()).or_default().insert(id, sender);
    let _member = Member { rooms, room: room.clone(), id };

    let speak = async {
        while let Some(text) = lines.next().await? {
            let message =
                Message { room: room.clone(), text: text.into(), from: (rooms.worker, id) };
            for worker in &rooms.workers {
                // It fails when the worker has ended, and then has no members.
                let _ = worker.send(message.clone()).await;
            }
        }
        Ok(())
    };
    let listen = async {
        while let Some(text) = messages.recv().await {
            stream.send_all(text.to_vec()).await.0?;
        }
        Err(io::Error::other("the member reads too slowly: its message queue was full"))
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
