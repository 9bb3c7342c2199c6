//! The programs that are compared.

mod bare_epoll;
mod bare_uring;
mod compio;
mod corio;
mod glommio;
mod monoio;
mod tasks;
mod tokio;
mod tokio_uring;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::{Done, Job, Reads, Service};

/// One runtime with one choice of settings.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// How it is set up.
    pub(crate) settings: &'static str,
    pub(crate) echo: fn(TcpListener, usize),
    pub(crate) http: fn(TcpListener),
    pub(crate) files: Option<fn(TcpListener, PathBuf)>,
    pub(crate) reads: Option<fn(Reads) -> Done>,
    pub(crate) copy: Option<fn(&Path, &Path) -> Done>,
    pub(crate) tasks: Option<Tasks>,
}

/// What a runtime does without I/O.
pub(crate) struct Tasks {
    spawn: fn(tasks: u64, at_once: u64) -> Done,
    yields: fn(tasks: u64, times: u64) -> Done,
    sleep: fn(Duration, times: u64) -> Done,
    timers: fn(tasks: u64) -> Done,
    channel: fn(messages: u64) -> Done,
    wake: fn(round_trips: u64) -> Done,
}

pub(crate) fn all() -> Vec<Peer> {
    [
        corio::peers(),
        monoio::peers(),
        compio::peers(),
        tokio::peers(),
        tokio_uring::peers(),
        glommio::peers(),
        bare_uring::peers(),
        bare_epoll::peers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Peer {
    pub(crate) fn named(name: &str) -> Option<Peer> {
        all().into_iter().find(|peer| peer.name == name)
    }

    pub(crate) fn offers(&self, service: &Service) -> bool {
        !matches!(service, Service::Files { .. }) || self.files.is_some()
    }

    pub(crate) fn can(&self, job: &Job) -> bool {
        match job {
            Job::Reads(_) => self.reads.is_some(),
            Job::Copy { .. } => self.copy.is_some(),
            _ => self.tasks.is_some(),
        }
    }

    /// Serves until the process is ended.
    pub(crate) fn serve(&self, listener: TcpListener, service: Service) {
        match service {
            Service::Echo { buffer } => (self.echo)(listener, buffer),
            Service::Http => (self.http)(listener),
            Service::Files { root } => {
                self.files.expect("only offered services are asked for")(listener, root)
            }
        }
    }

    pub(crate) fn run(&self, job: Job) -> Done {
        let tasks = || self.tasks.as_ref().expect("only what can be done is asked for");
        match job {
            Job::Reads(reads) => self.reads.expect("only what can be done is asked for")(reads),
            Job::Copy { from, to } => {
                self.copy.expect("only what can be done is asked for")(&from, &to)
            }
            Job::Spawn { tasks: count, at_once } => (tasks().spawn)(count, at_once),
            Job::Yield { tasks: count, times } => (tasks().yields)(count, times),
            Job::Sleep { nanoseconds, times } => {
                (tasks().sleep)(Duration::from_nanos(nanoseconds), times)
            }
            Job::Timers { tasks: count } => (tasks().timers)(count),
            Job::Channel { messages } => (tasks().channel)(messages),
            Job::Wake { round_trips } => (tasks().wake)(round_trips),
        }
    }
}
