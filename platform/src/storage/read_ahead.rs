//! Pages around those that were read last.
//!
//! A page that redb's cache lacks is waited for, and the wait holds up the image. Reading its neighbours with it costs
//! little more, and saves most of the waits where it matters: a table read in order, and the walk through all pages that
//! follows a crash.

use std::collections::VecDeque;

use super::overlay::BLOCK_SIZE;

/// Bytes read at a time, and the alignment of such a window in the file.
pub(super) const READ_AHEAD: usize = 8 * BLOCK_SIZE;
/// Windows kept: a walk reads in a few places at once, an inner page and leaves of each of several tables.
const WINDOWS: usize = 4;

/// The windows read last, the latest first. It holds what the device holds; whoever writes to the device says so.
#[derive(Default)]
pub(super) struct ReadAhead {
    windows: VecDeque<Window>,
}

struct Window {
    /// Offset in the file.
    start: u64,
    content: Vec<u8>,
}

impl Window {
    fn within(&self, offset: u64) -> Option<usize> {
        let within = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (within < self.content.len()).then_some(within)
    }
}

impl ReadAhead {
    /// Whether the byte at `offset` is here.
    pub(super) fn holds(&self, offset: u64) -> bool {
        self.windows.iter().any(|window| window.within(offset).is_some())
    }

    /// Copies what is here from `offset` on, and returns how many bytes that was.
    pub(super) fn copy(&mut self, offset: u64, out: &mut [u8]) -> Option<usize> {
        let index = self.windows.iter().position(|window| window.within(offset).is_some())?;
        let window = self.windows.remove(index)?;
        let within = window.within(offset)?;
        let length = out.len().min(window.content.len() - within);
        out[..length].copy_from_slice(&window.content[within..within + length]);
        self.windows.push_front(window);
        Some(length)
    }

    /// Keeps a window just read, in place of the one used longest ago.
    pub(super) fn keep(&mut self, start: u64, content: Vec<u8>) {
        self.windows.truncate(WINDOWS - 1);
        self.windows.push_front(Window { start, content });
    }

    /// Drops what has been written to the device since, by number of block.
    pub(super) fn forget(&mut self, blocks: impl Iterator<Item = u64>) {
        for block in blocks {
            if self.windows.is_empty() {
                return;
            }
            self.windows.retain(|window| window.within(block * BLOCK_SIZE as u64).is_none());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_used_until_written_or_displaced() {
        let mut read_ahead = ReadAhead::default();
        let window = READ_AHEAD as u64;
        for index in 0..WINDOWS as u64 {
            read_ahead.keep(index * window, vec![index as u8; READ_AHEAD]);
        }
        let mut out = [9; 100];
        assert_eq!(read_ahead.copy(window - 40, &mut out), Some(40), "up to the window's end");
        assert_eq!((out[0], out[39], out[40]), (0, 0, 9));
        read_ahead.keep(100 * window, vec![7; READ_AHEAD]);
        assert!(read_ahead.holds(0) && !read_ahead.holds(window), "the one used longest ago went");
        read_ahead.forget([1].into_iter());
        assert!(!read_ahead.holds(0) && read_ahead.holds(2 * window));
    }
}
