//! Creates a ring: finds the kernel's features by trying, never by its version.

use std::io;

use io_uring::register::Restriction;
use io_uring::{Builder, IoUring, Probe, cqueue, opcode, squeue};

use super::opcodes::Opcodes;
use crate::driver::{Settings, SetupError};

/// A set-up flag of `io_uring_setup(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetupFlag {
    SingleIssuer,
    DeferTaskrun,
    TaskrunFlag,
    SubmitAll,
    NoSqarray,
    CoopTaskrun,
}

impl SetupFlag {
    /// Returns the flag's name in the manual page, without `IORING_SETUP_`.
    pub(super) fn name(self) -> &'static str {
        match self {
            SetupFlag::SingleIssuer => "SINGLE_ISSUER",
            SetupFlag::DeferTaskrun => "DEFER_TASKRUN",
            SetupFlag::TaskrunFlag => "TASKRUN_FLAG",
            SetupFlag::SubmitAll => "SUBMIT_ALL",
            SetupFlag::NoSqarray => "NO_SQARRAY",
            SetupFlag::CoopTaskrun => "COOP_TASKRUN",
        }
    }

    fn set(self, builder: &mut Builder<squeue::Entry, cqueue::Entry>) {
        match self {
            SetupFlag::SingleIssuer => builder.setup_single_issuer(),
            SetupFlag::DeferTaskrun => builder.setup_defer_taskrun(),
            SetupFlag::TaskrunFlag => builder.setup_taskrun_flag(),
            SetupFlag::SubmitAll => builder.setup_submit_all(),
            SetupFlag::NoSqarray => builder.setup_no_sqarray(),
            SetupFlag::CoopTaskrun => builder.setup_coop_taskrun(),
        };
    }
}

/// What the kernel granted.
#[derive(Clone, Debug, Default)]
pub(super) struct Features {
    /// The set-up flags in force.
    pub(super) flags: &'static [SetupFlag],
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    /// The kernel flags deferred work, so that a turn without any need not enter the ring.
    pub(super) taskrun_flag: bool,
    /// A wait need not count as a wait for a disk in the system's load (6.15).
    pub(super) no_iowait: bool,
    /// The flags that a send may have. Without `MSG_WAITALL` before 6.0 (detected by an operation
    /// of the same release): there a cancelled send would not return the number of bytes it has
    /// sent. The operation itself then sends the rest of a short send.
    pub(super) send_flags: i32,
    /// Other rings may send messages to this one. That is cheap for a ring with deferred work since
    /// 6.10, which is detected by the feature for bundles, of the same release.
    pub(super) messages: bool,
    /// The operations that the ring carries out.
    pub(super) opcodes: Opcodes,
}

/// Sets of flags, best first. A kernel that lacks a flag answers `EINVAL` and is asked for the next
/// set.
const OFFERS: &[&[SetupFlag]] = {
    use SetupFlag::*;
    &[
        &[SingleIssuer, DeferTaskrun, TaskrunFlag, SubmitAll, NoSqarray], // 6.6
        &[SingleIssuer, DeferTaskrun, TaskrunFlag, SubmitAll],            // 6.1
        &[CoopTaskrun, TaskrunFlag, SubmitAll],                           // 5.19
        &[SubmitAll],                                                     // 5.18
        &[],
    ]
};

pub(super) fn build(settings: &Settings) -> Result<(IoUring, Features), SetupError> {
    let (entries, cq_entries) = settings.sizes()?;
    let mut refused = None;
    for &flags in OFFERS {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(cq_entries);
        for &flag in flags {
            flag.set(&mut builder);
        }
        if !settings.refused_opcodes.is_empty() {
            builder.setup_r_disabled();
        }
        match builder.build(entries) {
            Ok(ring) => {
                if !settings.refused_opcodes.is_empty() {
                    restrict(&ring, &settings.refused_opcodes)
                        .map_err(|error| explain(error, entries))?;
                }
                return granted(ring, flags);
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(error) => return Err(explain(error, entries)),
        }
    }
    Err(SetupError::Other(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into())))
}

/// Makes a ring that is not enabled yet refuse some operations, and enables it.
fn restrict(ring: &IoUring, refused: &[u8]) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let allowed: Vec<_> =
        Opcodes::of(&probe).iter().filter(|opcode| !refused.contains(opcode)).collect();
    // The kernel rejects the number of a registration that it does not have.
    for registrations in (0..64).rev() {
        let mut restrictions = vec![Restriction::sqe_flags_allowed(u8::MAX)];
        restrictions.extend(allowed.iter().map(|&opcode| Restriction::sqe_op(opcode)));
        restrictions.extend((0..registrations).map(Restriction::register_op));
        match ring.submitter().register_restrictions(&mut restrictions) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => {
                result?;
                break;
            }
        }
    }
    ring.submitter().register_enable_rings()
}

fn granted(ring: IoUring, flags: &'static [SetupFlag]) -> Result<(IoUring, Features), SetupError> {
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(SetupError::TooOld("IORING_FEAT_NODROP"));
    }
    if !params.is_feature_ext_arg() {
        return Err(SetupError::TooOld("IORING_FEAT_EXT_ARG"));
    }
    // Multishot polls have no feature flag; this one is of the same release.
    if !params.is_feature_resource_tagging() {
        return Err(SetupError::TooOld("multishot polls (5.13)"));
    }
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe);
    let probed = match probed {
        Err(error) if is_refusal(&error) => return Err(explain(error, params.sq_entries())),
        probed => probed.is_ok(),
    };
    if !probed || !probe.is_supported(opcode::Shutdown::CODE) {
        return Err(SetupError::TooOld("IORING_OP_SHUTDOWN"));
    }
    let features = Features {
        flags,
        sq_entries: params.sq_entries(),
        cq_entries: params.cq_entries(),
        taskrun_flag: flags.contains(&SetupFlag::TaskrunFlag),
        no_iowait: params.is_feature_no_iowait(),
        send_flags: match probe.is_supported(opcode::SendZc::CODE) {
            true => !0,
            false => !libc::MSG_WAITALL,
        },
        messages: params.is_feature_recvsend_bundle()
            && probe.is_supported(opcode::MsgRingData::CODE),
        opcodes: Opcodes::of(&probe),
    };
    Ok((ring, features))
}

/// Returns `true` if the kernel, or a seccomp filter, denies this process the call or its result.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EMFILE | libc::ENFILE)
    )
}

/// Explains why the ring that was created has no way to be woken.
pub(super) fn explain_wakeup(error: io::Error, entries: u32) -> SetupError {
    if is_refusal(&error) { explain(error, entries) } else { SetupError::Wakeup(error) }
}

/// Turns the kernel's error into one that says what to do about it.
fn explain(error: io::Error, entries: u32) -> SetupError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => SetupError::Missing(error),
        Some(libc::EPERM | libc::EACCES) => match io_uring_disabled() {
            Some(value @ 1..) => SetupError::ForbiddenBySysctl { value },
            _ => SetupError::ForbiddenByPolicy(error),
        },
        Some(libc::ENOMEM) => SetupError::Memory { entries, source: error },
        Some(libc::EMFILE | libc::ENFILE) => SetupError::Descriptors(error),
        _ => SetupError::Other(error),
    }
}

fn io_uring_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_was_built_has_the_flags_of_an_offer() {
        let features = match build(&Settings::new(8)) {
            Ok((_, features)) => features,
            Err(error) => return assert!(error.is_about_io_uring(), "{error}"),
        };
        assert!(OFFERS.contains(&features.flags));
    }
}
