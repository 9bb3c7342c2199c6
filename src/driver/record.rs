//! One operation as a driver sees it.

use std::cell::Cell;
use std::ptr::NonNull;

use super::Request;

/// The identity of an operation in flight: where its record is.
pub(crate) type Token = NonNull<Record>;

/// The driver's part of an operation's record. It lives inside the operation's future.
///
/// All fields but `request` belong to the driver while the operation is in flight.
///
/// Eight-byte aligned, so that the low three bits of its address are free for marks.
#[repr(C, align(8))]
pub(crate) struct Record {
    /// Describes the operation afresh, for a driver that has to try again. Only legal while
    /// nothing else uses the operation's memory.
    pub(crate) request: unsafe fn(Token) -> Request,
    /// The outcome, valid at delivery; before, a driver may keep something else there.
    pub(crate) result: Cell<i32>,
    pub(crate) notes: Cell<Notes>,
    pub(crate) links: Links,
}

/// Where an operation stands in a driver's queue.
pub(crate) struct Links {
    pub(crate) previous: Cell<Option<Token>>,
    pub(crate) next: Cell<Option<Token>>,
}

/// A driver's own notes on one operation; aligned so as to be read and written as one word.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(crate) struct Notes {
    /// Completions still to come.
    pub(crate) awaited: u8,
    /// Which mark the operation's token carries now.
    pub(crate) mark: u8,
    /// How often a cancel was tried.
    pub(crate) cancels: u8,
    /// At delivery of a receive: there is more in the socket, as far as the driver knows.
    pub(crate) more: bool,
}

impl Links {
    const fn new() -> Self {
        Links { previous: Cell::new(None), next: Cell::new(None) }
    }
}

impl Notes {
    pub(crate) const NEW: Notes = Notes { awaited: 1, mark: 0, cancels: 0, more: false };
}

impl Record {
    pub(crate) const fn new(request: unsafe fn(Token) -> Request) -> Self {
        Record { request, result: Cell::new(0), notes: Cell::new(Notes::NEW), links: Links::new() }
    }
}
