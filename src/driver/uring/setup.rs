//! Making a ring: which of the kernel's offers are taken, found out by trying.

use std::io;

use io_uring::register::Restriction;
use io_uring::{IoUring, Probe, opcode};

use super::opcodes::Opcodes;
use crate::driver::{Settings, SetupError};

/// What the kernel granted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Features {
    /// The set-up flags in force, by their names in `io_uring_setup(2)`.
    pub(crate) flags: Vec<&'static str>,
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    /// The kernel says when it has deferred work, so that asking for it can be left out.
    pub(crate) taskrun_flag: bool,
    /// Waiting need not be shown as waiting for a disk (6.15).
    pub(crate) no_iowait: bool,
    /// A send that wants to be whole and is cancelled tells how far it came (6.0, like the operation
    /// that is looked for in its place).
    pub(crate) whole_sends: bool,
    /// Other rings may write to this one. Since the release that brought bundles (6.10), which is what
    /// is looked for, that is cheap for a ring with deferred work.
    pub(crate) messages: bool,
    /// The operations that the ring carries out.
    pub(super) opcodes: Opcodes,
}

/// Sets of flags, best first. A kernel that lacks one answers `EINVAL` and gets the next.
const OFFERS: &[&[&str]] = &[
    &["SINGLE_ISSUER", "DEFER_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL", "NO_SQARRAY"], // 6.6
    &["SINGLE_ISSUER", "DEFER_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"],               // 6.1
    &["COOP_TASKRUN", "TASKRUN_FLAG", "SUBMIT_ALL"],                                 // 5.19
    &["SUBMIT_ALL"],                                                                 // 5.18
    &[],
];

pub(super) fn build(settings: &Settings) -> Result<(IoUring, Features), SetupError> {
    let (entries, cq_entries) = settings.sizes()?;
    let mut refused = None;
    for &flags in OFFERS {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(cq_entries);
        for &flag in flags {
            match flag {
                "SINGLE_ISSUER" => builder.setup_single_issuer(),
                "DEFER_TASKRUN" => builder.setup_defer_taskrun(),
                "TASKRUN_FLAG" => builder.setup_taskrun_flag(),
                "SUBMIT_ALL" => builder.setup_submit_all(),
                "NO_SQARRAY" => builder.setup_no_sqarray(),
                "COOP_TASKRUN" => builder.setup_coop_taskrun(),
                _ => unreachable!("a flag of OFFERS has no builder call"),
            };
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

/// Has a ring, which is not enabled yet, refuse some operations, and enables it.
fn restrict(ring: &IoUring, refused: &[u8]) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let allowed: Vec<_> =
        Opcodes::of(&probe).iter().filter(|opcode| !refused.contains(opcode)).collect();
    // The kernel takes no number of a registration that it does not have.
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

fn granted(ring: IoUring, flags: &[&'static str]) -> Result<(IoUring, Features), SetupError> {
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(SetupError::TooOld("IORING_FEAT_NODROP"));
    }
    if !params.is_feature_ext_arg() {
        return Err(SetupError::TooOld("IORING_FEAT_EXT_ARG"));
    }
    // The flag of the release that brought multishot polls, which have none of their own.
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
        flags: flags.to_vec(),
        sq_entries: params.sq_entries(),
        cq_entries: params.cq_entries(),
        taskrun_flag: flags.contains(&"TASKRUN_FLAG"),
        no_iowait: params.is_feature_no_iowait(),
        whole_sends: probe.is_supported(opcode::SendZc::CODE),
        messages: params.is_feature_recvsend_bundle()
            && probe.is_supported(opcode::MsgRingData::CODE),
        opcodes: Opcodes::of(&probe),
    };
    Ok((ring, features))
}

/// The kernel, or a filter in its place, does not let this process have the call or its result.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EMFILE | libc::ENFILE)
    )
}

/// Why the ring that was made can't be woken.
pub(super) fn explain_wakeup(error: io::Error, entries: u32) -> SetupError {
    if is_refusal(&error) { explain(error, entries) } else { SetupError::Wakeup(error) }
}

/// Finds out why the kernel said no, so that a person can do something about it.
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
    fn every_offer_can_be_built_or_is_refused_with_einval() {
        for &flags in OFFERS {
            for &flag in flags {
                assert!(flag.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            }
        }
        let features = match build(&Settings::new(8)) {
            Ok((_, features)) => features,
            Err(error) => return assert!(error.is_about_io_uring(), "{error}"),
        };
        assert!(OFFERS.iter().any(|offer| *offer == features.flags));
    }
}
