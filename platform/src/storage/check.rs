//! Checking a storage without changing it: what `--check-storage` does.

use core::cell::RefCell;
use core::fmt;
use std::rc::Rc;

use super::backend::Attachment;
use super::error::OpenError;
use super::open::{MINIMUM_CAPACITY, is_blank, read_copies};
use super::overlay::BLOCK_SIZE;
use super::pipeline::Pipeline;
use super::superblock::{Invalid, Superblock};
use crate::device::Block;
use crate::executor::Handle;

/// Memory for the database's pages while it is checked, in bytes.
const CACHE_BYTES: usize = 1024 * 1024;

/// Where redb's header has its flags, and the one that is set while the file is open for writing
/// (redb's design document, "Database header").
const FLAGS_OFFSET: u64 = 9;
const RECOVERY_REQUIRED: u8 = 2;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The service whose storage it is.
    pub service: String,
    /// Capacity of the device in bytes.
    pub capacity: u64,
    /// Length of the database file in bytes.
    pub length: u64,
    /// How often the superblock has been written.
    pub generation: u64,
    /// Whether each of the two copies of the superblock is sound. One may be torn by a crash or not be written yet.
    pub superblocks: [bool; 2],
    /// The state of the database.
    pub integrity: Integrity,
    /// Bytes of the pages in use. Zero if the database is damaged, as are the next two.
    pub used_bytes: u64,
    /// Bytes of keys and values.
    pub stored_bytes: u64,
    /// Tables, by name.
    pub tables: Vec<String>,
    /// What the service found wrong in what it keeps.
    pub findings: Vec<String>,
}

/// The state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Every checksum is right, and the image that wrote it shut down cleanly.
    Sound,
    /// Every checksum is right; the image that wrote it did not shut down cleanly. The next open repairs what that left.
    Unclean,
    /// Nothing has been written yet.
    Empty,
    /// Something is wrong that no crash explains.
    Damaged(String),
}

impl CheckReport {
    /// Whether everything that was ever acknowledged can be read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !matches!(self.integrity, Integrity::Damaged(_))
            && self.superblocks != [false, false]
            && self.findings.is_empty()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = |sound| if sound { "sound" } else { "not written or torn" };
        writeln!(f, "service      {}", self.service)?;
        writeln!(f, "device       {} bytes", self.capacity)?;
        writeln!(
            f,
            "superblocks  first {}, second {}, generation {}",
            state(self.superblocks[0]),
            state(self.superblocks[1]),
            self.generation
        )?;
        writeln!(f, "file         {} bytes", self.length)?;
        writeln!(
            f,
            "in use       {} bytes, of which keys and values {}",
            self.used_bytes, self.stored_bytes
        )?;
        writeln!(f, "tables       {}", self.tables.join(", "))?;
        match &self.integrity {
            Integrity::Sound => writeln!(f, "database     sound"),
            Integrity::Unclean => {
                writeln!(f, "database     sound, not shut down cleanly: the next start repairs that")
            }
            Integrity::Empty => writeln!(f, "database     empty"),
            Integrity::Damaged(reason) => {
                writeln!(f, "database     DAMAGED: {reason}: restore it from a backup")
            }
        }?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "content      DAMAGED: {finding}"))
    }
}

/// Reads a whole storage and verifies it. Nothing is written to the device, which may be read-only; what a repair would
/// write is kept in memory.
///
/// # Errors
/// [`OpenError`] if the device is not a storage or cannot be read. A damaged database is no error but the report's matter.
pub async fn check(handle: &Handle, device: Box<dyn Block>) -> Result<CheckReport, OpenError> {
    check_content(handle, device, |_| Vec::new()).await
}

/// As [`check`], and has `inspect` say what is wrong in what the service keeps. It gets a transaction that is never
/// committed: what it writes is forgotten. It does not run if the database is empty or damaged.
///
/// # Errors
/// As [`check`].
pub async fn check_content(
    handle: &Handle,
    mut device: Box<dyn Block>,
    inspect: impl FnOnce(&redb::WriteTransaction) -> Vec<String>,
) -> Result<CheckReport, OpenError> {
    let capacity = device.properties().capacity;
    if capacity < MINIMUM_CAPACITY {
        return Err(OpenError::TooSmall { capacity, needed: MINIMUM_CAPACITY });
    }
    let copies = read_copies(&mut *device).await?;
    let superblocks = copies.each_ref().map(Result::is_ok);
    let superblock = match Superblock::choose(copies) {
        Ok(superblock) => superblock,
        Err(Invalid::Version(found)) => return Err(OpenError::OtherVersion { found }),
        Err(Invalid::Damaged) => return Err(OpenError::DamagedSuperblock),
        Err(Invalid::Foreign) if is_blank(&mut *device).await? => return Err(OpenError::Blank),
        Err(Invalid::Foreign) => return Err(OpenError::Foreign),
    };
    superblock.check_against(capacity)?;
    let mut report = CheckReport {
        service: superblock.service.clone(),
        capacity,
        length: superblock.length,
        generation: superblock.generation,
        superblocks,
        integrity: Integrity::Empty,
        used_bytes: 0,
        stored_bytes: 0,
        tables: Vec::new(),
        findings: Vec::new(),
    };
    if superblock.length > 0 {
        let pipeline = Pipeline::inspecting(device, Rc::clone(handle.clock()), superblock);
        report.integrity = check_database(&Rc::new(RefCell::new(pipeline)), &mut report, inspect)
            .unwrap_or_else(|error| Integrity::Damaged(error.to_string()));
    }
    Ok(report)
}

fn check_database(
    pipeline: &Rc<RefCell<Pipeline>>,
    report: &mut CheckReport,
    inspect: impl FnOnce(&redb::WriteTransaction) -> Vec<String>,
) -> Result<Integrity, redb::Error> {
    let mut flags = [0];
    let unclean =
        pipeline.borrow_mut().read(FLAGS_OFFSET, &mut flags).is_err() || flags[0] & RECOVERY_REQUIRED != 0;
    let attachment = Attachment::new(pipeline);
    let database = redb::Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(attachment.backend())?;
    let transaction = database.begin_write()?;
    let statistics = transaction.stats()?;
    report.used_bytes = statistics.allocated_pages() * BLOCK_SIZE as u64;
    report.stored_bytes = statistics.stored_bytes();
    report.tables =
        transaction.list_tables()?.map(|table| redb::TableHandle::name(&table).to_owned()).collect();
    report.findings = inspect(&transaction);
    transaction.abort()?;
    // What is in memory is dropped with the pipeline.
    drop(attachment);
    Ok(if unclean { Integrity::Unclean } else { Integrity::Sound })
}
