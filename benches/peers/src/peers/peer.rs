//! A peer: a runtime or a bare loop, with its programs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::{Done, Job, Reads, Service};

/// A runtime with its settings, and the programs that are written on it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// A description of the settings.
    pub(crate) settings: &'static str,
    pub(crate) echo: fn(TcpListener, usize),
    pub(crate) http: fn(TcpListener),
    pub(crate) files: Option<fn(TcpListener, PathBuf)>,
    pub(crate) reads: Option<fn(Reads) -> Done>,
    pub(crate) copy: Option<fn(&Path, &Path) -> Done>,
    pub(crate) tasks: Option<Tasks>,
}

/// The programs without I/O.
pub(crate) struct Tasks {
    pub(super) spawn: fn(tasks: u64, at_once: u64) -> Done,
    pub(super) yields: fn(tasks: u64, times: u64) -> Done,
    pub(super) sleep: fn(Duration, times: u64) -> Done,
    pub(super) timers: fn(tasks: u64) -> Done,
    pub(super) channel: fn(messages: u64) -> Done,
    pub(super) wake: fn(round_trips: u64) -> Done,
}

impl Peer {
    /// Returns `true` if the peer has a server for `service`.
    pub(crate) fn offers(&self, service: &Service) -> bool {
        !matches!(service, Service::Files { .. }) || self.files.is_some()
    }

    /// Returns `true` if the peer has a program for `job`.
    pub(crate) fn can(&self, job: &Job) -> bool {
        match job {
            Job::Reads(_) => self.reads.is_some(),
            Job::Copy { .. } => self.copy.is_some(),
            _ => self.tasks.is_some(),
        }
    }

    /// Serves until the listener is shut down.
    pub(crate) fn serve(&self, listener: TcpListener, service: Service) {
        match service {
            Service::Echo { buffer } => (self.echo)(listener, buffer),
            Service::Http => (self.http)(listener),
            Service::Files { root } => {
                self.files.expect("the caller has checked `offers`")(listener, root)
            }
        }
    }

    /// Runs a job and returns its own measurements.
    pub(crate) fn run(&self, job: Job) -> Done {
        let tasks = || self.tasks.as_ref().expect("the caller has checked `can`");
        match job {
            Job::Reads(reads) => self.reads.expect("the caller has checked `can`")(reads),
            Job::Copy { from, to } => self.copy.expect("the caller has checked `can`")(&from, &to),
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
