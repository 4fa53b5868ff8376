//! Block devices: many requests in flight, each with a buffer of its own, and a true flush.

use core::fmt;
use core::task::{Context, Poll};

/// What a block device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockProperties {
    /// Bytes in a sector: offsets and lengths are multiples of it. A power of two, 512 to 4096.
    pub sector_size: u32,
    /// Size of the device in bytes, a multiple of `sector_size`. May grow while the image runs.
    pub capacity: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether [`Operation::Flush`] makes data durable. Where it is `false` the image says so at start.
    pub durable_flush: bool,
    /// How many requests the device takes before [`Block::submit`] returns [`BlockError::Busy`].
    pub queue_depth: usize,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the whole buffer from `offset`.
    Read,
    /// Write the whole buffer at `offset`.
    Write,
    /// Make every write that **completed before this was submitted** durable. The buffer is empty.
    Flush,
}

/// A request and the buffer it lends to the device until its [`Completion`].
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Byte offset on the device, a multiple of the sector size.
    pub offset: u64,
    /// The data; its length is a multiple of the sector size.
    pub buffer: Vec<u8>,
}

/// Names a request until it completes. Unique among the requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request that is done, with its buffer back.
#[derive(Debug)]
pub struct Completion {
    /// Which request.
    pub id: RequestId,
    /// Whether it worked.
    pub result: Result<(), BlockError>,
    /// The buffer lent by the request.
    pub buffer: Vec<u8>,
}

/// Why a block request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// Caller: offset or length is not a multiple of the sector size, or past the end.
    OutOfRange,
    /// Caller: a write to a read-only device.
    ReadOnly,
    /// The queue is full: poll for completions, then submit again.
    Busy,
    /// Device: it reported an error.
    Device,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "request is outside the device or not aligned to its sectors",
            Self::ReadOnly => "the device is read-only",
            Self::Busy => "the device's queue is full",
            Self::Device => "the device reported an input/output error",
        })
    }
}

impl std::error::Error for BlockError {}

/// A block device. Requests may complete in any order; no order between them is implied but that of [`Operation::Flush`].
pub trait Block {
    /// What the device is now (its capacity may have grown).
    fn properties(&self) -> BlockProperties;

    /// Starts a request.
    ///
    /// # Errors
    /// The request comes back unstarted, with the reason.
    fn submit(&mut self, request: Request) -> Result<RequestId, (BlockError, Request)>;

    /// Takes the next completion. `Pending` also when nothing is in flight. The device owes the wake-up.
    fn poll_complete(&mut self, context: &mut Context<'_>) -> Poll<Completion>;

    /// Takes the next completion, holding up everything else in the image until there is one.
    /// For the rare synchronous read of a page that no cache holds.
    ///
    /// Returns `None` when nothing is in flight.
    fn wait_complete(&mut self) -> Option<Completion>;
}

/// Checks a request against a device, as every driver must before it starts one.
///
/// # Errors
/// [`BlockError::OutOfRange`] or [`BlockError::ReadOnly`].
pub(crate) fn validate_block_request(
    properties: &BlockProperties,
    request: &Request,
) -> Result<(), BlockError> {
    let length = request.buffer.len() as u64;
    let sector = u64::from(properties.sector_size);
    match request.operation {
        Operation::Flush => return Ok(()),
        Operation::Write if properties.read_only => return Err(BlockError::ReadOnly),
        Operation::Read | Operation::Write => {}
    }
    let end = request.offset.checked_add(length).ok_or(BlockError::OutOfRange)?;
    if length == 0
        || !length.is_multiple_of(sector)
        || !request.offset.is_multiple_of(sector)
        || end > properties.capacity
    {
        return Err(BlockError::OutOfRange);
    }
    Ok(())
}
