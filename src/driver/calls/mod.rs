//! The tables of plain system calls. See [`Call`](super::call::Call).

pub(crate) mod fs;
pub(crate) mod net;
