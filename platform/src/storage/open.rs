//! Opening a device as storage: whose it is, whether to format it, and the database on it.

use core::cell::RefCell;
use core::future::poll_fn;
use std::rc::Rc;

use super::commit::durable;
use super::database::{Database, Settings};
use super::error::{OpenError, StorageError};
use super::overlay::BLOCK_SIZE;
use super::pipeline::Pipeline;
use super::superblock::{COPY_OFFSETS, DATA_OFFSET, Invalid, NAME_LIMIT, Superblock};
use crate::device::{Block, BlockError, Operation, Request};
use crate::executor::Handle;

/// Least capacity of a device, in bytes: what redb needs to begin with, several times over, so that a service's first
/// tables fit.
pub const MINIMUM_CAPACITY: u64 = 1024 * 1024;
/// How much of the beginning and of the end of a device must be zero for it to count as blank, in bytes. Partition
/// tables, file systems, volume managers and RAID all leave their marks there.
const BLANK_PROBE: u64 = 1024 * 1024;
/// How much of it is read at a time.
const PROBE_STEP: u64 = 64 * 1024;

/// How to open a storage.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The service whose storage it is, 1 to 64 bytes. A storage of another service is refused.
    pub service: String,
    /// Whether a device that is neither blank nor a storage of this service may be overwritten. A sound storage of this
    /// service is opened as it is even so: the argument may stay on the command line.
    pub format: bool,
    /// Memory for the database's pages, in bytes, half of it for pages being written. Everything that does not fit is
    /// read from the device when it is needed, which holds up the image.
    pub cache_bytes: usize,
    /// Most memory for pages written and not yet flushed, in bytes; requests in flight take as much again. A transaction
    /// that writes more holds up the image while it is written out.
    pub pending_bytes: usize,
    /// Whether to open at once after a crash, instead of in a walk through the whole database, at the price of a second
    /// flush in every commit.
    pub quick_repair: bool,
}

impl StorageOptions {
    /// Options for `service`: not to format, and an eighth of `memory` bytes for the cache, a sixteenth for what is
    /// pending.
    #[must_use]
    pub fn new(service: &str, memory: usize) -> Self {
        Self {
            service: service.to_owned(),
            format: false,
            cache_bytes: memory / 8,
            pending_bytes: memory / 16,
            quick_repair: false,
        }
    }
}

/// An opened device and the database on it.
pub(super) struct Opened {
    pub(super) pipeline: Rc<RefCell<Pipeline>>,
    pub(super) database: Database,
}

pub(super) async fn open(
    handle: &Handle,
    mut device: Box<dyn Block>,
    options: &StorageOptions,
) -> Result<Opened, OpenError> {
    if options.service.is_empty() || options.service.len() > NAME_LIMIT {
        return Err(OpenError::ServiceName);
    }
    let properties = device.properties();
    if properties.read_only {
        return Err(OpenError::ReadOnly);
    }
    if properties.capacity < MINIMUM_CAPACITY {
        return Err(OpenError::TooSmall { capacity: properties.capacity, needed: MINIMUM_CAPACITY });
    }
    if !properties.durable_flush {
        log::warn!("the storage device has no flush: a power failure may lose what was acknowledged");
    }
    let superblock = match recognise(&mut *device, &options.service).await {
        Ok(superblock) => superblock,
        Err(Refusal::Blank) => format(&mut *device, &options.service).await?,
        Err(Refusal::NotOurs(_)) if options.format => format(&mut *device, &options.service).await?,
        Err(Refusal::NotOurs(error) | Refusal::Unusable(error)) => return Err(error),
    };
    let empty = superblock.length == 0;
    let pipeline = Pipeline::new(device, Rc::clone(handle.clock()), superblock, options.pending_bytes);
    let pipeline = Rc::new(RefCell::new(pipeline));
    handle.spawn({
        let pipeline = Rc::clone(&pipeline);
        async move { poll_fn(|context| pipeline.borrow_mut().poll(context)).await }
    });
    let opened = open_database(&pipeline, options, empty).await;
    if opened.is_err() {
        pipeline.borrow_mut().stop();
    }
    Ok(Opened { database: opened?, pipeline })
}

async fn open_database(
    pipeline: &Rc<RefCell<Pipeline>>,
    options: &StorageOptions,
    empty: bool,
) -> Result<Database, OpenError> {
    // redb creates a file in two steps. A length is published only after both, or a crash between them would leave a
    // file that is neither empty nor a database.
    pipeline.borrow_mut().hold_length(empty);
    let settings = Settings { cache_bytes: options.cache_bytes, quick_repair: options.quick_repair };
    let opened = Database::open(pipeline, settings);
    pipeline.borrow_mut().hold_length(false);
    let database = opened.map_err(|error| match pipeline.borrow().check() {
        Err(StorageError::Failed { operation, error }) => OpenError::Device { operation, error },
        _ => OpenError::DamagedDatabase(error.to_string()),
    })?;
    let synced = pipeline.borrow_mut().sync();
    debug_assert_eq!(synced, Ok(()), "opening writes nothing past the device");
    let count = pipeline.borrow().closed_count();
    durable(pipeline, count).await.map_err(|error| match error {
        StorageError::Failed { operation, error } => OpenError::Device { operation, error },
        other => OpenError::DamagedDatabase(other.to_string()),
    })?;
    Ok(database)
}

/// Why a device is not simply opened.
enum Refusal {
    /// Nothing is on it.
    Blank,
    /// Something is on it; formatting would help.
    NotOurs(OpenError),
    /// Formatting would not help, or destroy what can be saved.
    Unusable(OpenError),
}

/// Reads the superblock of `service`'s storage.
async fn recognise(device: &mut dyn Block, service: &str) -> Result<Superblock, Refusal> {
    let capacity = device.properties().capacity;
    let superblock = match Superblock::choose(read_copies(device).await.map_err(Refusal::Unusable)?) {
        Ok(superblock) => superblock,
        Err(Invalid::Version(found)) => return Err(Refusal::NotOurs(OpenError::OtherVersion { found })),
        Err(Invalid::Damaged) => return Err(Refusal::NotOurs(OpenError::DamagedSuperblock)),
        Err(Invalid::Foreign) => {
            let blank = is_blank(device).await.map_err(Refusal::Unusable)?;
            return Err(if blank { Refusal::Blank } else { Refusal::NotOurs(OpenError::Foreign) });
        }
    };
    if superblock.service != service {
        let (found, expected) = (superblock.service, service.to_owned());
        return Err(Refusal::NotOurs(OpenError::OtherService { found, expected }));
    }
    superblock.check_against(capacity).map_err(Refusal::Unusable)?;
    Ok(superblock)
}

/// Both copies of the superblock.
pub(super) async fn read_copies(
    device: &mut dyn Block,
) -> Result<[Result<Superblock, Invalid>; 2], OpenError> {
    let first = read(device, COPY_OFFSETS[0], BLOCK_SIZE).await?;
    let second = read(device, COPY_OFFSETS[1], BLOCK_SIZE).await?;
    Ok([Superblock::decode(&first), Superblock::decode(&second)])
}

/// Whether nothing is on the device.
pub(super) async fn is_blank(device: &mut dyn Block) -> Result<bool, OpenError> {
    let capacity = device.properties().capacity;
    for (start, end) in [(0, BLANK_PROBE.min(capacity)), (capacity.saturating_sub(BLANK_PROBE), capacity)] {
        let mut offset = start;
        while offset < end {
            let length = PROBE_STEP.min(end - offset);
            if read(device, offset, length as usize).await?.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            offset += length;
        }
    }
    Ok(true)
}

/// Makes the device an empty storage. Both copies are erased first: of an older storage's superblock nothing is left
/// that could later be taken for the newer one.
async fn format(device: &mut dyn Block, service: &str) -> Result<Superblock, OpenError> {
    let capacity = device.properties().capacity;
    log::info!("formatting the storage device of {capacity} bytes for {service}");
    write(device, 0, vec![0; DATA_OFFSET as usize]).await?;
    flush(device).await?;
    let superblock = Superblock { service: service.to_owned(), generation: 0, length: 0, capacity };
    write(device, superblock.offset(), superblock.encode()).await?;
    flush(device).await?;
    Ok(superblock)
}

async fn read(device: &mut dyn Block, offset: u64, length: usize) -> Result<Vec<u8>, OpenError> {
    request(device, Request { operation: Operation::Read, offset, buffer: vec![0; length] }).await
}

async fn write(device: &mut dyn Block, offset: u64, buffer: Vec<u8>) -> Result<(), OpenError> {
    request(device, Request { operation: Operation::Write, offset, buffer }).await.map(drop)
}

async fn flush(device: &mut dyn Block) -> Result<(), OpenError> {
    request(device, Request { operation: Operation::Flush, offset: 0, buffer: Vec::new() }).await.map(drop)
}

/// One request, alone on the device.
async fn request(device: &mut dyn Block, request: Request) -> Result<Vec<u8>, OpenError> {
    let operation = request.operation;
    let failed = |error: BlockError| OpenError::Device { operation, error };
    let id = device.submit(request).map_err(|(error, _)| failed(error))?;
    loop {
        let completion = poll_fn(|context| device.poll_complete(context)).await;
        if completion.id == id {
            return completion.result.map(|()| completion.buffer).map_err(failed);
        }
    }
}
