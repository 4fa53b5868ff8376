//! What the running process may still do: the seccomp filter.

use core::fmt;
use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{ProcessError, system};

/// The system calls of a running image, and why each is needed. Any other kills the process.
pub const SYSTEM_CALLS: [(&str, i64); 9] = [
    // Frames, flush results and signals in.
    ("readv", libc::SYS_readv),
    // Frames, log lines and flush orders out.
    ("write", libc::SYS_write),
    // The idle point.
    ("ppoll", libc::SYS_ppoll),
    // Blocks.
    ("pread64", libc::SYS_pread64),
    ("pwrite64", libc::SYS_pwrite64),
    // Keys made by ring, which asks the kernel each time.
    ("getrandom", libc::SYS_getrandom),
    // Time, where the kernel's clock source is not readable through the vDSO.
    ("clock_gettime", libc::SYS_clock_gettime),
    // Waking only. redb wakes whoever waits for its writer, though nobody ever does: there is one thread.
    ("futex", libc::SYS_futex),
    ("exit_group", libc::SYS_exit_group),
];

/// The system calls of the process that flushes the disk.
const FLUSHER_SYSTEM_CALLS: [i64; 4] =
    [libc::SYS_readv, libc::SYS_write, libc::SYS_fdatasync, libc::SYS_exit_group];

/// Restricts the process to [`SYSTEM_CALLS`].
pub(super) fn install() -> Result<(), ProcessError> {
    restrict(SYSTEM_CALLS.iter().map(|(_, number)| *number))
}

/// Restricts the flusher to the four that it makes.
pub(super) fn install_for_flusher() -> Result<(), ProcessError> {
    restrict(FLUSHER_SYSTEM_CALLS.into_iter())
}

fn restrict(allowed: impl Iterator<Item = i64>) -> Result<(), ProcessError> {
    let failed =
        |error: &dyn fmt::Display| ProcessError::new(format_args!("the system call filter: {error}"));
    let mut rules: BTreeMap<i64, Vec<_>> = allowed.map(|number| (number, Vec::new())).collect();
    if let Some(futex) = rules.get_mut(&libc::SYS_futex) {
        let command = SeccompCmpOp::MaskedEq(libc::FUTEX_CMD_MASK as u64 & 0xffff_ffff);
        let wake = SeccompCondition::new(1, SeccompCmpArgLen::Dword, command, libc::FUTEX_WAKE as u64)
            .and_then(|wake| SeccompRule::new(vec![wake]));
        futex.push(wake.map_err(|error| failed(&error))?);
    }
    let program =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)
            .and_then(BpfProgram::try_from)
            .map_err(|error| failed(&error))?;
    system::give_up_privileges()?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))
}
