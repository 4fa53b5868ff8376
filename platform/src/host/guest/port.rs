//! Input and output ports of the PC.
//!
//! Reading or writing a port has effects that only the device behind it limits, so all of these are unsafe.

use core::arch::asm;

macro_rules! port_access {
    ($read:ident, $write:ident, $type:ty, $register:tt, $modifier:literal, $bits:literal) => {
        #[doc = concat!("Reads ", $bits, " bits from `port`.")]
        ///
        /// # Safety
        /// The device behind the port is the caller's to use, and does not write to memory in answer.
        #[inline]
        #[must_use]
        pub unsafe fn $read(port: u16) -> $type {
            let value;
            // SAFETY: The caller vouches for the device.
            unsafe {
                asm!(concat!("in ", $modifier, ", dx"), in("dx") port, out($register) value,
                    options(nostack, preserves_flags));
            }
            value
        }

        #[doc = concat!("Writes ", $bits, " bits to `port`.")]
        ///
        /// # Safety
        /// The device behind the port is the caller's to use, and does not write to memory in answer.
        #[inline]
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: The caller vouches for the device.
            unsafe {
                asm!(concat!("out dx, ", $modifier), in("dx") port, in($register) value,
                    options(nostack, preserves_flags));
            }
        }
    };
}

port_access!(inb, outb, u8, "al", "al", "8");
port_access!(inw, outw, u16, "ax", "ax", "16");
port_access!(inl, outl, u32, "eax", "eax", "32");
