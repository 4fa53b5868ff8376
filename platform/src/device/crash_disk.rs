//! A disk that remembers everything, to be crashed afterwards at every point.

use core::cell::RefCell;
use core::task::{Context, Poll};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Block, BlockError, BlockProperties, Completion, MemoryDisk, Operation, Request, RequestId};

/// The smallest unit that a disk writes whole or not at all, in bytes: the smallest sector there is, whatever the
/// device's own claim.
const ATOM: usize = 512;

/// A device that records what reaches it, and can rebuild the disk as a crash at any moment may have left it. Clones
/// share the recording.
#[derive(Clone)]
pub struct CrashDisk {
    inner: MemoryDisk,
    recording: Rc<RefCell<Recording>>,
}

struct Recording {
    before: Vec<u8>,
    events: Vec<Event>,
    in_flight: BTreeMap<RequestId, Event>,
}

#[derive(Clone)]
enum Event {
    /// From here on the write may have reached the disk.
    Submitted { offset: usize, data: Rc<[u8]> },
    /// From here on a flush will cover the write submitted as this event.
    Completed { submitted: usize },
    /// From here on what had completed before this event is durable.
    Flushed { since: usize },
}

/// What a crash does to writes that no flush has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of them are on the disk.
    None,
    /// None of them is.
    All,
    /// Of each, at random, every sector is there, none, or some; the number decides which.
    Some(u64),
    /// The same befalls writes that a flush has covered: a disk that lies. Nothing can be safe on it; a test that does
    /// not notice is no test.
    Lying(u64),
}

impl CrashDisk {
    /// Records what happens to `inner` from now on.
    #[must_use]
    pub fn new(inner: MemoryDisk) -> Self {
        let recording = Recording { before: inner.content(), events: Vec::new(), in_flight: BTreeMap::new() };
        Self { inner, recording: Rc::new(RefCell::new(recording)) }
    }

    /// How many events have been recorded. A moment of the past is named by this number as it was then.
    #[must_use]
    pub fn moment(&self) -> usize {
        self.recording.borrow().events.len()
    }

    /// The disk after a crash at `moment`.
    #[must_use]
    pub fn crash(&self, moment: usize, loss: Loss) -> MemoryDisk {
        let recording = self.recording.borrow();
        let mut content = recording.before.clone();
        content.resize(usize::try_from(self.inner.properties().capacity).expect("it is in memory"), 0);
        let events = &recording.events[..moment];
        let durable = durable_writes(events);
        let mut random = match loss {
            Loss::Some(seed) | Loss::Lying(seed) => seed,
            Loss::None | Loss::All => 0,
        };
        // In the order of submission: of two writes to a sector the later may be lost, or both, but a disk does not
        // bring back the earlier over the later, unless both were in flight, where either is right.
        for (index, event) in events.iter().enumerate() {
            let Event::Submitted { offset, data } = event else { continue };
            let lies = matches!(loss, Loss::Lying(_));
            let fate = if durable[index] && !lies { Loss::None } else { loss };
            let fraction = next(&mut random) % 3;
            for (number, sector) in data.chunks(ATOM).enumerate() {
                let start = offset + number * ATOM;
                let arrived = match (fate, fraction) {
                    (Loss::None, _) => true,
                    (Loss::All, _) => false,
                    (_, 0) => true,
                    (_, 1) => false,
                    _ => next(&mut random).is_multiple_of(2),
                };
                if arrived {
                    content[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
        MemoryDisk::with_content(content)
    }
}

/// Which of the events are writes that a flush has covered.
fn durable_writes(events: &[Event]) -> Vec<bool> {
    let mut durable = vec![false; events.len()];
    let last_flush = events.iter().filter_map(|event| match event {
        Event::Flushed { since } => Some(*since),
        _ => None,
    });
    let covered = last_flush.max().unwrap_or(0);
    for event in &events[..covered] {
        if let Event::Completed { submitted } = event {
            durable[*submitted] = true;
        }
    }
    durable
}

/// The next number of a sequence that a seed determines (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl CrashDisk {
    fn record_completion(&self, completion: &Completion) {
        let mut recording = self.recording.borrow_mut();
        if let Some(event) = recording.in_flight.remove(&completion.id)
            && completion.result.is_ok()
        {
            recording.events.push(event);
        }
    }
}

impl Block for CrashDisk {
    fn properties(&self) -> BlockProperties {
        self.inner.properties()
    }

    fn submit(&mut self, request: Request) -> Result<RequestId, (BlockError, Request)> {
        let (operation, offset) = (request.operation, request.offset);
        let data: Rc<[u8]> = request.buffer.as_slice().into();
        let id = self.inner.submit(request)?;
        let mut recording = self.recording.borrow_mut();
        let moment = recording.events.len();
        let completed = match operation {
            Operation::Read => None,
            Operation::Write => {
                let offset = usize::try_from(offset).expect("it is in memory");
                recording.events.push(Event::Submitted { offset, data });
                Some(Event::Completed { submitted: moment })
            }
            Operation::Flush => Some(Event::Flushed { since: moment }),
        };
        if let Some(completed) = completed {
            recording.in_flight.insert(id, completed);
        }
        Ok(id)
    }

    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        self.inner.poll_complete(context).map(|completion| {
            self.record_completion(&completion);
            completion
        })
    }

    fn wait_complete(&mut self) -> Option<Completion> {
        let completion = self.inner.wait_complete()?;
        self.record_completion(&completion);
        Some(completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(disk: &mut CrashDisk, operation: Operation, offset: u64, byte: u8) {
        let length = if operation == Operation::Flush { 0 } else { 1024 };
        disk.submit(Request { operation, offset, buffer: vec![byte; length] }).expect("within the disk");
    }

    #[test]
    fn a_crash_loses_only_what_no_flush_covers() {
        let mut disk = CrashDisk::new(MemoryDisk::new(4096));
        request(&mut disk, Operation::Write, 0, 1);
        disk.wait_complete();
        request(&mut disk, Operation::Write, 1024, 2);
        request(&mut disk, Operation::Flush, 0, 0);
        disk.wait_complete();
        disk.wait_complete();
        let lost = disk.crash(disk.moment(), Loss::All).content();
        assert_eq!(
            (lost[0], lost[1023], lost[1024]),
            (1, 1, 0),
            "the second write completed after the flush began"
        );
        let kept = disk.crash(disk.moment(), Loss::None).content();
        assert_eq!((kept[0], kept[1024]), (1, 2));
        assert_eq!(disk.crash(0, Loss::None).content(), vec![0; 4096]);
    }

    #[test]
    fn writes_tear_between_sectors() {
        let mut disk = CrashDisk::new(MemoryDisk::new(4096));
        request(&mut disk, Operation::Write, 0, 1);
        let images = (0..64).map(|seed| disk.crash(disk.moment(), Loss::Some(seed)).content());
        let mut outcomes = images
            .map(|image| {
                assert!(image.chunks(ATOM).all(|sector| sector.iter().all(|&byte| byte == sector[0])));
                (image[0], image[ATOM])
            })
            .collect::<Vec<_>>();
        outcomes.sort_unstable();
        outcomes.dedup();
        assert_eq!(outcomes, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }
}
