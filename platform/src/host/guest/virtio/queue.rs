//! The split virtqueue (virtio 1.2, 2.7): how a driver lends buffers to a device and learns that it has them back.
//!
//! The device is not trusted with memory safety: what it writes is read from the used ring alone and checked against a
//! record that the device cannot reach. A device that returns what it never had, or claims to have written more than
//! it was lent, yields a [`Nonsense`]; its driver then stops it.
//!
//! Every request of our drivers takes one to three descriptors, so that the ring itself holds enough of them and
//! indirect tables would only add a read by the device.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering, fence};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};

/// Largest queue of the specification (2.7).
pub(crate) const MAX_SIZE: u16 = 32768;

/// Alignment of the used ring in the legacy layout (2.7.2), which modern devices take as well.
pub(crate) const ALIGNMENT: usize = 4096;

const DESCRIPTOR_NEXT: u16 = 1;
const DESCRIPTOR_WRITE: u16 = 2;
const AVAILABLE_NO_INTERRUPT: u16 = 1;
const USED_NO_NOTIFY: u16 = 1;

const DESCRIPTOR_BYTES: usize = 16;
const USED_ELEMENT_BYTES: usize = 8;

/// Memory lent to a device: a physical range, and whether the device may write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

impl Segment {
    /// Memory that the device reads. Guest memory is mapped one to one, so addresses are physical.
    pub(crate) fn readable(address: *const u8, length: u32) -> Self {
        Self { address: address.expose_provenance() as u64, length, writable: false }
    }

    /// Memory that the device fills.
    pub(crate) fn writable(address: *mut u8, length: u32) -> Self {
        Self { address: address.expose_provenance() as u64, length, writable: true }
    }
}

/// A chain that the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// What [`Queue::push`] returned for it.
    pub head: u16,
    /// Bytes the device wrote, never more than the chain's writable length.
    pub written: u32,
}

/// Why a device is not to be dealt with any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonsense {
    /// It returned a chain that it did not have.
    UnknownChain(u32),
    /// It claims to have written more than it was lent.
    WrittenTooMuch { written: u32, lent: u32 },
    /// It returned more chains than it had.
    IndexJumped { used: u16, expected: u16 },
    /// The content breaks the device's protocol.
    Content(&'static str),
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownChain(id) => write!(f, "the device returned chain {id}, which it did not have"),
            Self::WrittenTooMuch { written, lent } => {
                write!(f, "the device says it wrote {written} bytes to a buffer of {lent}")
            }
            Self::IndexJumped { used, expected } => {
                write!(f, "the device's used index is {used}, far from {expected}")
            }
            Self::Content(what) => write!(f, "the device {what}"),
        }
    }
}

/// Where the three parts of a queue lie, for the transport to tell the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// What the driver remembers of a descriptor, out of the device's reach.
#[derive(Clone, Copy, Default)]
struct Shadow {
    /// The next descriptor in the chain or in the free list.
    next: u16,
    /// In the head of a chain in flight: how many descriptors it has. Otherwise 0.
    chain: u16,
    /// In the head of a chain in flight: how many bytes the device may write.
    writable: u32,
}

/// The rings: one allocation, so that it fits the legacy layout. It is never freed, for a device may write to it as long
/// as the machine runs, and each device is made once.
struct Rings {
    base: NonNull<u8>,
    size: u16,
}

impl Rings {
    fn new(size: u16) -> Self {
        let bytes = Self::used_offset(size) + 6 + USED_ELEMENT_BYTES * usize::from(size);
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("a queue is at most 1 MiB");
        // SAFETY: the layout is not of size zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Self { base, size }
    }

    fn available_offset(size: u16) -> usize {
        DESCRIPTOR_BYTES * usize::from(size)
    }

    fn used_offset(size: u16) -> usize {
        (Self::available_offset(size) + 6 + 2 * usize::from(size)).next_multiple_of(ALIGNMENT)
    }

    /// The 16-bit field at `offset`, which the device reads or writes at any time.
    fn field(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: callers pass even offsets within the allocation, which lives for ever, is zeroed and thereby
        // initialised, and whose 16-bit fields are accessed atomically only.
        unsafe { AtomicU16::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn available_flags(&self) -> &AtomicU16 {
        self.field(Self::available_offset(self.size))
    }

    fn available_index(&self) -> &AtomicU16 {
        self.field(Self::available_offset(self.size) + 2)
    }

    fn available_entry(&self, slot: u16) -> &AtomicU16 {
        debug_assert!(slot < self.size);
        self.field(Self::available_offset(self.size) + 4 + 2 * usize::from(slot))
    }

    fn used_event(&self) -> &AtomicU16 {
        self.field(Self::available_offset(self.size) + 4 + 2 * usize::from(self.size))
    }

    fn used_flags(&self) -> &AtomicU16 {
        self.field(Self::used_offset(self.size))
    }

    fn used_index(&self) -> &AtomicU16 {
        self.field(Self::used_offset(self.size) + 2)
    }

    fn available_event(&self) -> &AtomicU16 {
        self.field(Self::used_offset(self.size) + 4 + USED_ELEMENT_BYTES * usize::from(self.size))
    }

    /// The identity and length in the used ring at `slot`.
    fn used_element(&self, slot: u16) -> (u32, u32) {
        debug_assert!(slot < self.size);
        let offset = Self::used_offset(self.size) + 4 + USED_ELEMENT_BYTES * usize::from(slot);
        // SAFETY: the slot is below the size, so the element is within the allocation; it is aligned to 4 bytes. The
        // device may write it at any time, hence volatile: any value is a valid u32.
        unsafe {
            let element = self.base.as_ptr().add(offset).cast::<u32>();
            (element.read_volatile(), element.add(1).read_volatile())
        }
    }

    fn write_descriptor(&mut self, index: u16, segment: Segment, flags: u16, next: u16) {
        debug_assert!(index < self.size);
        // SAFETY: the index is below the size, so the descriptor is within the allocation, and aligned. The device only
        // reads it, and only after the available index has been published.
        unsafe {
            let descriptor = self.base.as_ptr().add(DESCRIPTOR_BYTES * usize::from(index));
            descriptor.cast::<u64>().write_volatile(segment.address);
            descriptor.add(8).cast::<u32>().write_volatile(segment.length);
            descriptor.add(12).cast::<u16>().write_volatile(flags);
            descriptor.add(14).cast::<u16>().write_volatile(next);
        }
    }

    fn address(&self, offset: usize) -> u64 {
        (self.base.as_ptr().expose_provenance() + offset) as u64
    }
}

/// One queue of a device.
pub(crate) struct Queue {
    rings: Rings,
    shadows: Box<[Shadow]>,
    free_head: u16,
    free: u16,
    /// Chains that the device has.
    in_flight: u16,
    /// Where the next chain goes in the available ring; ahead of what is published.
    next_available: u16,
    published: u16,
    next_used: u16,
    event_index: bool,
}

impl Queue {
    /// A queue of `size` descriptors, a power of two up to [`MAX_SIZE`]. `event_index`: whether
    /// `VIRTIO_F_EVENT_IDX` was agreed.
    ///
    /// # Panics
    /// If the size is not one.
    pub(crate) fn new(size: u16, event_index: bool) -> Self {
        assert!(size.is_power_of_two() && size <= MAX_SIZE, "a queue of {size} descriptors");
        let rings = Rings::new(size);
        let shadows = (0..size).map(|index| Shadow { next: index + 1, ..Shadow::default() }).collect();
        let mut queue = Self {
            rings,
            shadows,
            free_head: 0,
            free: size,
            in_flight: 0,
            next_available: 0,
            published: 0,
            next_used: 0,
            event_index,
        };
        queue.disable_notifications();
        queue
    }

    /// Where its parts lie.
    pub(crate) fn addresses(&self) -> Addresses {
        let size = self.rings.size;
        Addresses {
            size,
            descriptors: self.rings.address(0),
            available: self.rings.address(Rings::available_offset(size)),
            used: self.rings.address(Rings::used_offset(size)),
        }
    }

    /// How many descriptors it has.
    pub(crate) fn size(&self) -> u16 {
        self.rings.size
    }

    /// How many descriptors are free.
    pub(crate) fn free(&self) -> u16 {
        self.free
    }

    /// The head that the next [`Queue::push`] will return, if it succeeds.
    pub(crate) fn next_head(&self) -> u16 {
        self.free_head
    }

    /// Whether the device has no chain.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Lends a chain of segments, those the device reads before those it writes, and returns its head, or `None` if
    /// there are too few free descriptors. The device sees it after [`Queue::publish`].
    ///
    /// # Safety
    /// The memory of each segment must stay allocated, and untouched where the device may write it, until
    /// [`Queue::pop`] has returned this head, or the device has been reset.
    pub(crate) unsafe fn push(&mut self, segments: &[Segment]) -> Option<u16> {
        let count = u16::try_from(segments.len()).ok().filter(|&count| count > 0 && count <= self.free)?;
        let head = self.free_head;
        let mut index = head;
        let mut writable = 0_u32;
        for (position, &segment) in segments.iter().enumerate() {
            let last = position + 1 == segments.len();
            let next = self.shadows[usize::from(index)].next;
            let mut flags = if last { 0 } else { DESCRIPTOR_NEXT };
            if segment.writable {
                flags |= DESCRIPTOR_WRITE;
                writable = writable.saturating_add(segment.length);
            }
            self.rings.write_descriptor(index, segment, flags, if last { 0 } else { next });
            index = next;
        }
        self.free_head = index;
        self.free -= count;
        self.in_flight += 1;
        let shadow = &mut self.shadows[usize::from(head)];
        (shadow.chain, shadow.writable) = (count, writable);
        let slot = self.next_available & (self.rings.size - 1);
        self.rings.available_entry(slot).store(head, Ordering::Relaxed);
        self.next_available = self.next_available.wrapping_add(1);
        Some(head)
    }

    /// Shows the device what was pushed since the last time. Returns whether it wants to be notified.
    #[must_use]
    pub(crate) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.next_available);
        if old == new {
            return false;
        }
        self.rings.available_index().store(new, Ordering::Release);
        self.published = new;
        // The device sets its wish for notifications, then looks at the index; we set the index, then look at the wish.
        // Without the barrier both might miss the other.
        fence(Ordering::SeqCst);
        if self.event_index {
            let event = self.rings.available_event().load(Ordering::Relaxed);
            // vring_need_event of 2.7.10
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.rings.used_flags().load(Ordering::Relaxed) & USED_NO_NOTIFY == 0
        }
    }

    /// Whether the device has given anything back.
    pub(crate) fn has_used(&self) -> bool {
        self.rings.used_index().load(Ordering::Acquire) != self.next_used
    }

    /// Takes back a chain that the device is done with.
    ///
    /// The length that a device writes for a chain without writable memory is not looked at: there are devices that put
    /// the length of the packet there.
    ///
    /// # Errors
    /// The device broke the protocol. The queue stays as it was and is of no more use.
    pub(crate) fn pop(&mut self) -> Result<Option<Used>, Nonsense> {
        let used = self.rings.used_index().load(Ordering::Acquire);
        if used == self.next_used {
            return Ok(None);
        }
        if used.wrapping_sub(self.next_used) > self.in_flight {
            return Err(Nonsense::IndexJumped { used, expected: self.next_used });
        }
        let (id, written) = self.rings.used_element(self.next_used & (self.rings.size - 1));
        let head = u16::try_from(id).map_err(|_| Nonsense::UnknownChain(id))?;
        let shadow = match self.shadows.get(usize::from(head)) {
            Some(shadow) if shadow.chain > 0 => *shadow,
            _ => return Err(Nonsense::UnknownChain(id)),
        };
        let written = if shadow.writable == 0 { 0 } else { written };
        if written > shadow.writable {
            return Err(Nonsense::WrittenTooMuch { written, lent: shadow.writable });
        }
        self.release(head, shadow.chain);
        self.next_used = self.next_used.wrapping_add(1);
        self.in_flight -= 1;
        Ok(Some(Used { head, written }))
    }

    /// Asks for an interrupt at the next chain that comes back. Returns whether one has come back already: then there
    /// may be no interrupt, and the caller has to [`Queue::pop`].
    #[must_use]
    pub(crate) fn enable_notifications(&mut self) -> bool {
        self.enable_notifications_after(0)
    }

    /// Asks for an interrupt once three quarters of what the device has come back: for a sender who waits for room.
    #[must_use]
    pub(crate) fn enable_notifications_late(&mut self) -> bool {
        let later = u32::from(self.in_flight) * 3 / 4;
        self.enable_notifications_after(later.saturating_sub(1) as u16)
    }

    fn enable_notifications_after(&mut self, more: u16) -> bool {
        if self.event_index {
            self.rings.used_event().store(self.next_used.wrapping_add(more), Ordering::Relaxed);
        } else {
            self.rings.available_flags().store(0, Ordering::Relaxed);
        }
        // As in `publish`, the other way round.
        fence(Ordering::SeqCst);
        let waiting = self.rings.used_index().load(Ordering::Acquire).wrapping_sub(self.next_used);
        waiting > if self.event_index { more } else { 0 }
    }

    /// Wants no interrupts while the queue is polled. With an event index it is enough to leave that behind.
    pub(crate) fn disable_notifications(&mut self) {
        if self.event_index {
            self.rings.used_event().store(self.next_used.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.rings.available_flags().store(AVAILABLE_NO_INTERRUPT, Ordering::Relaxed);
        }
    }

    fn release(&mut self, head: u16, count: u16) {
        let mut last = head;
        for _ in 1..count {
            last = self.shadows[usize::from(last)].next;
        }
        self.shadows[usize::from(head)].chain = 0;
        self.shadows[usize::from(last)].next = self.free_head;
        self.free_head = head;
        self.free += count;
    }
}

#[cfg(test)]
mod tests;
