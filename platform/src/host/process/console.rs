//! The console of a process: its standard error.

use super::system;
use crate::device::Console;

/// Standard error, unbuffered.
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
