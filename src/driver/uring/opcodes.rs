//! The set of operations that a ring carries out.

use io_uring::Probe;

/// A set of ring opcodes (`IORING_OP_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Opcodes(u128);

impl Opcodes {
    /// The operations that the kernel has, as `IORING_REGISTER_PROBE` reports them.
    pub(super) fn of(probe: &Probe) -> Self {
        let supported = (0..u128::BITS as u8).filter(|&opcode| probe.is_supported(opcode));
        Opcodes(supported.map(|opcode| 1 << opcode).sum())
    }

    /// Returns `true` if the ring carries the operation out.
    pub(super) fn has(self, opcode: u8) -> bool {
        self.0 >> (opcode as u32 % u128::BITS) & 1 != 0
    }
}
