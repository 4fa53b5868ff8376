//! The processor: its features, time stamp counter and model-specific registers.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc, CpuidResult};

/// Where hypervisors tell of themselves.
const HYPERVISOR_BASE: u32 = 0x4000_0000;
/// A hypervisor that plays several at once (KVM with Hyper-V's interface) puts each at its own multiple of this.
const HYPERVISOR_STRIDE: u32 = 0x100;
/// How many of those are looked at.
const HYPERVISOR_LEAVES: u32 = 8;

/// The time stamp counter.
#[inline]
#[must_use]
pub fn time_stamp() -> u64 {
    // SAFETY: Every x86-64 processor has the instruction, and ring 0 may use it.
    unsafe { _rdtsc() }
}

/// CPUID `leaf`, or zeros when the processor has no such leaf.
pub(crate) fn identify(leaf: u32, subleaf: u32) -> CpuidResult {
    if __cpuid(leaf & 0x8000_0000).eax >= leaf {
        __cpuid_count(leaf, subleaf)
    } else {
        CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
    }
}

/// The first CPUID leaf of the hypervisor that signs as `signature`, and its last.
pub(crate) fn hypervisor(signature: &[u8; 12]) -> Option<(u32, u32)> {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if identify(1, 0).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    (0..HYPERVISOR_LEAVES).map(|index| HYPERVISOR_BASE + index * HYPERVISOR_STRIDE).find_map(|base| {
        let leaf = __cpuid(base);
        (signature_of(leaf) == *signature).then_some((base, leaf.eax.max(base + 1)))
    })
}

/// The name that the first hypervisor leaf gives, if there is one: `KVMKVMKVM`, `TCGTCGTCGTCG`.
pub(crate) fn hypervisor_name() -> Option<String> {
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if identify(1, 0).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let bytes = signature_of(__cpuid(HYPERVISOR_BASE));
    let name: String =
        bytes.iter().take_while(|byte| byte.is_ascii_graphic()).map(|&byte| byte as char).collect();
    (!name.is_empty()).then_some(name)
}

fn signature_of(leaf: CpuidResult) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&leaf.ebx.to_le_bytes());
    bytes[4..8].copy_from_slice(&leaf.ecx.to_le_bytes());
    bytes[8..].copy_from_slice(&leaf.edx.to_le_bytes());
    bytes
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists, and the code that runs is ready for what the value does.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: The caller's.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists.
pub(crate) unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: The caller's.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}
