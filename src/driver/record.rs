//! The driver's part of an operation's record.

// # Why this file has `unsafe`
// It turns tokens, which are addresses, into references. All drivers do so by these functions.

use std::cell::Cell;
use std::ptr::NonNull;

use super::Request;

/// The identity of an operation in flight: the address of its record.
pub(crate) type Token = NonNull<Record>;

/// The driver's part of an operation's record. It lives inside the operation's future.
///
/// All fields but `request` belong to the driver while the operation is in flight.
///
/// Eight-byte aligned, so that the low three bits of its address are free for a tag.
#[repr(C, align(8))]
pub(crate) struct Record {
    /// Describes the operation once more, for a driver that has to try again.
    ///
    /// # Safety
    /// - the token is the address of this record, and the operation is in flight;
    /// - neither the kernel nor a thread uses the operation's memory during the call.
    pub(crate) request: unsafe fn(Token) -> Request,
    /// The result, valid at delivery; before, a driver may keep another number there.
    pub(crate) result: Cell<i32>,
    pub(crate) notes: Cell<Notes>,
    pub(crate) links: Links,
}

/// The neighbours of an operation in a driver's queue.
pub(crate) struct Links {
    pub(crate) previous: Cell<Option<Token>>,
    pub(crate) next: Cell<Option<Token>>,
}

/// A driver's own notes on one operation; aligned so as to be read and written as one word.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(crate) struct Notes {
    /// The number of completions still to come.
    pub(crate) awaited: u8,
    /// Where the operation is, as a number that the driver defines.
    pub(crate) tag: u8,
    /// How many cancels have been sent.
    pub(crate) cancels: u8,
    /// At delivery of a receive: the socket holds more, as far as the driver knows.
    pub(crate) more: bool,
}

impl Links {
    const fn new() -> Self {
        Links { previous: Cell::new(None), next: Cell::new(None) }
    }
}

impl Notes {
    pub(crate) const NEW: Notes = Notes { awaited: 1, tag: 0, cancels: 0, more: false };
}

impl Record {
    pub(crate) const fn new(request: unsafe fn(Token) -> Request) -> Self {
        Record { request, result: Cell::new(0), notes: Cell::new(Notes::NEW), links: Links::new() }
    }

    pub(super) fn set_tag(&self, tag: u8) {
        self.notes.set(Notes { tag, ..self.notes.get() });
    }
}

/// Returns the record of an operation.
///
/// # Safety
/// `op` is in flight, and stays so for as long as the reference is used.
#[inline(always)]
pub(super) unsafe fn record<'a>(op: Token) -> &'a Record {
    // SAFETY: in flight, so clause 1 of the contract keeps the record in place; all its fields that
    // change are cells.
    unsafe { op.as_ref() }
}

/// Describes an operation once more.
///
/// # Safety
/// - `op` is in flight;
/// - neither the kernel nor a thread uses its memory during the call.
#[inline(always)]
pub(super) unsafe fn describe(op: Token) -> Request {
    // SAFETY: item 1 is what `record` asks for, and both items are what `Record::request` does.
    unsafe { (record(op).request)(op) }
}
