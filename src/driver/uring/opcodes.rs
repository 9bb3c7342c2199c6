//! The set of operations that a ring carries out.

use io_uring::Probe;

/// A set of ring opcodes (`IORING_OP_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opcodes(u128);

/// There are fewer than 128 opcodes; a number beyond them is none.
fn bit(opcode: u8) -> u128 {
    1u128.checked_shl(opcode.into()).unwrap_or(0)
}

impl Opcodes {
    /// The operations that the kernel has, as `IORING_REGISTER_PROBE` reports them.
    pub(super) fn of(probe: &Probe) -> Self {
        let supported = (0..u128::BITS as u8).filter(|&opcode| probe.is_supported(opcode));
        Opcodes(supported.map(bit).sum())
    }

    /// Takes an opcode out of the set.
    pub(super) fn remove(&mut self, opcode: u8) {
        self.0 &= !bit(opcode);
    }

    /// Puts an opcode into the set.
    pub(super) fn insert(&mut self, opcode: u8) {
        self.0 |= bit(opcode);
    }

    /// The opcodes of the set, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        (0..u128::BITS as u8).filter(move |&opcode| self.has(opcode))
    }

    /// Returns `true` if the ring carries the operation out.
    pub(super) fn has(self, opcode: u8) -> bool {
        self.0 & bit(opcode) != 0
    }
}
