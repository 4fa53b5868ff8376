//! The console of a process: its standard error.

use core::fmt;

use super::system;
use crate::device::Console;
use crate::host::panic::EmergencyOutput;

/// Standard error, unbuffered.
#[derive(Default)]
pub(super) struct StandardError;

impl Console for StandardError {
    fn write(&self, mut text: &[u8]) {
        while !text.is_empty() {
            match system::write(libc::STDERR_FILENO, text) {
                Ok(length) => text = &text[length..],
                // Nobody reads, or not fast enough: a log must not hold up the service.
                Err(_) => return,
            }
        }
    }
}

impl fmt::Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

impl EmergencyOutput for StandardError {}
