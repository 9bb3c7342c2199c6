//! Requests for plain system calls.

use std::ptr::NonNull;

use crate::driver::{Args, Call, Request};

/// Makes the request for `call` with `args`, which lie in the operation.
pub(super) fn plain(call: &'static Call, args: &mut Args) -> Request {
    Request::Call { call, fd: args.files[0].fd, len: 0, args: NonNull::from(args) }
}
