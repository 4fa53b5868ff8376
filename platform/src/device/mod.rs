//! Devices: what a host gives to an image, as traits of a few methods.
//!
//! All methods that can wait are poll-style. The rule for each of them: **the device owes the wake-up.** A method that
//! returns [`Poll::Pending`](core::task::Poll) has stored the context's waker (replacing the one stored before by the
//! same method) and will wake it when calling again may make progress. Hosts deliver those wake-ups from
//! [`Host::wait`](crate::host::Host::wait), at one place in the executor's loop.

mod block;
mod clock;
mod console;
mod crash_disk;
pub mod drbg;
mod entropy;
mod faulty_disk;
mod frame;
mod link;
mod memory_disk;
mod net;
mod pipe;
mod random;

pub(crate) use block::validate_block_request;
pub use block::{Block, BlockError, BlockProperties, Completion, Operation, Request, RequestId};
pub use clock::{Clock, Instant, ManualClock, WallTime};
pub use console::Console;
pub use crash_disk::{CrashDisk, Loss};
pub use entropy::Entropy;
pub use faulty_disk::FaultyDisk;
pub use frame::{Checksum, Frame, FramePool, FramePoolLimits, Offload, Segmentation, SegmentationKind};
pub use link::{LinkEnd, LinkProperties, link};
pub use memory_disk::MemoryDisk;
pub use net::{Net, NetProperties, OffloadSupport};
pub use pipe::Pipe;
pub use random::SeededEntropy;
