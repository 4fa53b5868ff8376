//! What has been written to the database file and is not yet durable on the device, in the order of its flushes.
//!
//! The database's `sync_data` ends an *epoch*. Within an epoch the order of writes is free; between epochs it is kept:
//! nothing of an epoch goes to the device before the epoch before it has been flushed. Data, not devices: the overlay
//! is driven by the [pipeline](super::pipeline).

use std::collections::{BTreeMap, VecDeque};

/// The unit in which the overlay keeps data: redb's page, and the largest sector of a device. So every write to the
/// device is of whole sectors, and none changes bytes that the database did not write.
pub(super) const BLOCK_SIZE: usize = 4096;

/// Writes between two syncs.
#[derive(Default)]
pub(super) struct Epoch {
    /// Content of blocks of the database file, by number.
    pub(super) blocks: BTreeMap<u64, Box<[u8]>>,
    /// Length of the file at the end of the epoch, in bytes.
    pub(super) length: u64,
    /// Whether that length may be told to the device: not before the file is complete for the first time.
    pub(super) publish: bool,
    /// Whether the epoch changes anything; blocks may have been written out before its end.
    changed: bool,
}

/// Every epoch that is not durable.
pub(super) struct Overlay {
    closed: VecDeque<Epoch>,
    open: Epoch,
    /// Epochs closed so far, in total.
    closed_count: u64,
    /// Length of the file when the last epoch closed.
    synced_length: u64,
    blocks: usize,
    held: bool,
}

impl Overlay {
    /// Nothing to write, over a file of `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        let open = Epoch { length, ..Epoch::default() };
        Self { closed: VecDeque::new(), open, closed_count: 0, synced_length: length, blocks: 0, held: false }
    }

    /// Length of the file in bytes, as its writer sees it.
    pub(super) fn length(&self) -> u64 {
        self.open.length
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.blocks * BLOCK_SIZE
    }

    /// How many epochs have been closed: once so many are durable, everything written before this call is.
    pub(super) fn closed_count(&self) -> u64 {
        self.closed_count
    }

    /// The latest content of a block, if it is here.
    pub(super) fn get(&self, block: u64) -> Option<&[u8]> {
        core::iter::once(&self.open)
            .chain(self.closed.iter().rev())
            .find_map(|epoch| epoch.blocks.get(&block))
            .map(|content| &**content)
    }

    /// A block already written in the open epoch, to change in place.
    pub(super) fn get_open_mut(&mut self, block: u64) -> Option<&mut [u8]> {
        self.open.blocks.get_mut(&block).map(|content| &mut **content)
    }

    /// Writes a block.
    pub(super) fn put(&mut self, block: u64, content: Box<[u8]>) {
        debug_assert_eq!(content.len(), BLOCK_SIZE);
        self.open.changed = true;
        if self.open.blocks.insert(block, content).is_none() {
            self.blocks += 1;
        }
    }

    /// Sets the length of the file. What was written past it in this epoch is dropped.
    pub(super) fn set_length(&mut self, length: u64) {
        if length < self.open.length {
            let dropped = self.open.blocks.split_off(&length.div_ceil(BLOCK_SIZE as u64));
            self.blocks -= dropped.len();
        }
        self.open.changed |= length != self.open.length;
        self.open.length = length;
    }

    /// Holds the file's length back from the device in the epochs that close from now on, or no longer.
    pub(super) fn hold_length(&mut self, held: bool) {
        self.open.changed |= self.held && !held;
        self.held = held;
    }

    /// Ends the open epoch, if it changes anything.
    pub(super) fn close(&mut self) {
        if self.open.changed {
            self.open.publish = !self.held;
            self.synced_length = self.open.length;
            let next = Epoch { length: self.open.length, ..Epoch::default() };
            self.closed.push_back(core::mem::replace(&mut self.open, next));
            self.closed_count += 1;
        }
    }

    /// Forgets the open epoch: the file is again as it was when the last one closed.
    pub(super) fn discard_open(&mut self) {
        self.blocks -= self.open.blocks.len();
        self.open = Epoch { length: self.synced_length, ..Epoch::default() };
    }

    /// The last block written in the open epoch.
    pub(super) fn last_open_block(&self) -> Option<u64> {
        self.open.blocks.last_key_value().map(|(&block, _)| block)
    }

    /// The oldest closed epoch, whose turn it is to be written.
    pub(super) fn oldest(&self) -> Option<&Epoch> {
        self.closed.front()
    }

    /// Takes the oldest closed epoch out, now that it is durable, and returns its blocks.
    pub(super) fn retire_oldest(&mut self) -> BTreeMap<u64, Box<[u8]>> {
        let epoch = self.closed.pop_front().unwrap_or_default();
        self.blocks -= epoch.blocks.len();
        epoch.blocks
    }

    /// Takes the blocks of the open epoch out, to be written before its end.
    pub(super) fn take_open_blocks(&mut self) -> BTreeMap<u64, Box<[u8]>> {
        self.blocks -= self.open.blocks.len();
        core::mem::take(&mut self.open.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(byte: u8) -> Box<[u8]> {
        vec![byte; BLOCK_SIZE].into_boxed_slice()
    }

    #[test]
    fn a_later_epoch_hides_an_earlier_one_until_it_is_retired() {
        let mut overlay = Overlay::new(0);
        overlay.put(3, block(1));
        overlay.close();
        overlay.put(3, block(2));
        overlay.close();
        assert_eq!(overlay.get(3).map(|content| content[0]), Some(2));
        assert_eq!((overlay.bytes(), overlay.closed_count()), (2 * BLOCK_SIZE, 2));
        overlay.retire_oldest();
        assert_eq!(overlay.get(3).map(|content| content[0]), Some(2));
        overlay.retire_oldest();
        assert_eq!((overlay.get(3), overlay.bytes()), (None, 0));
    }

    #[test]
    fn an_epoch_without_changes_is_not_closed() {
        let mut overlay = Overlay::new(8192);
        overlay.close();
        overlay.set_length(8192);
        overlay.close();
        assert_eq!(overlay.closed_count(), 0);
        overlay.set_length(4096);
        overlay.close();
        assert_eq!(overlay.oldest().map(|epoch| epoch.length), Some(4096));
    }

    #[test]
    fn a_cut_file_loses_its_end() {
        let mut overlay = Overlay::new(3 * BLOCK_SIZE as u64);
        overlay.put(1, block(1));
        overlay.put(2, block(2));
        overlay.set_length(2 * BLOCK_SIZE as u64);
        assert!(overlay.get(1).is_some() && overlay.get(2).is_none());
        assert_eq!(overlay.bytes(), BLOCK_SIZE);
    }
}
