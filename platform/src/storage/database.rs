//! The redb database on a pipeline: opened, opened again when its file must change under it, closed.
//!
//! redb takes a refusal by its file for a failed disk: from then on it refuses everything, reading too. So the file
//! never refuses to grow. Past the device's room it grows in name only, and the transaction that did it is aborted, which
//! takes the growth back. Three things follow from redb's ways of growing (`TransactionalMemory::grow` in 4.6):
//!
//! - It doubles its file up to 4 GiB, and grows by 4 GiB then. The last step seldom fits; the file is then closed and
//!   opened at the length that does, which redb supports.
//! - It may allocate while it commits, when nothing can be aborted any more. Once the file fills the device, a reserve
//!   is kept for that, and for changes that free space.
//! - Should a commit run out even so, the pages past the device never leave memory; the commit fails, and the database
//!   is opened again as the last sync left it.

use core::cell::RefCell;
use std::rc::Rc;

use redb::{ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::backend::Attachment;
use super::error::StorageError;
use super::overlay::BLOCK_SIZE;
use super::pipeline::Pipeline;

/// Pages that changes must leave free once the file fills the device: what a commit of the largest group and one that
/// frees space take for themselves.
const RESERVED_PAGES: u64 = 64;
/// The table that tries whether they are free; it never outlives its transaction.
const RESERVE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("skerry: reserve");
/// A value that fills a page of the reserve by itself.
const RESERVE_VALUE: usize = BLOCK_SIZE * 3 / 4;

/// What came of a transaction.
pub(super) enum Commit<S> {
    /// Committed; durable when so many epochs are.
    Committed(u64),
    /// Stopped by what ran in it.
    Aborted(S),
    /// Nothing happened, but the file has grown: try again.
    Again,
}

/// See the module.
pub(super) struct Database {
    open: Result<Open, StorageError>,
    settings: Settings,
    pipeline: Rc<RefCell<Pipeline>>,
}

/// How redb is to work.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    /// Memory for pages, in bytes.
    pub(super) cache_bytes: usize,
    /// Whether each commit records what a repair would otherwise look for.
    pub(super) quick_repair: bool,
}

struct Open {
    database: redb::Database,
    attachment: Attachment,
}

impl Database {
    /// Opens the database in the pipeline's file, or creates it in an empty one.
    pub(super) fn open(
        pipeline: &Rc<RefCell<Pipeline>>,
        settings: Settings,
    ) -> Result<Self, redb::DatabaseError> {
        let mut database = Self { open: Err(StorageError::Closed), settings, pipeline: Rc::clone(pipeline) };
        database.open_file()?;
        Ok(database)
    }

    fn open_file(&mut self) -> Result<(), redb::DatabaseError> {
        let attachment = Attachment::new(&self.pipeline);
        let database = redb::Database::builder()
            .set_cache_size(self.settings.cache_bytes)
            .set_repair_callback(|session| {
                if session.progress() == 0.0 {
                    log::warn!("the storage was not shut down cleanly: repairing it");
                }
            })
            .create_with_backend(attachment.backend())?;
        self.open = Ok(Open { database, attachment });
        Ok(())
    }

    fn get(&self) -> Result<&redb::Database, StorageError> {
        self.open.as_ref().map(|open| &open.database).map_err(Clone::clone)
    }

    /// Takes the open database out; it is closed for everybody until the next is put in.
    fn take(&mut self) -> Option<Open> {
        core::mem::replace(&mut self.open, Err(StorageError::Closed)).ok()
    }

    /// Opens the database again; if that fails, every later use does, for the same reason.
    fn reopen(&mut self) -> Result<(), StorageError> {
        self.open_file().map_err(|error| {
            let reason = self.pipeline.borrow().check().err().unwrap_or_else(|| refused(error));
            self.open = Err(reason.clone());
            reason
        })
    }

    /// A view of what has been committed.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StorageError> {
        self.get()?.begin_read().map_err(refused)
    }

    /// Runs `run` in a transaction and commits it, unless `run` stops it, as it must when it finds
    /// [`Pipeline::overflowed`].
    ///
    /// # Errors
    /// Nothing of the transaction is kept then, and the database goes on from what was committed before.
    pub(super) fn transact<S>(
        &mut self,
        run: impl FnOnce(&WriteTransaction) -> Result<(), S>,
    ) -> Result<Commit<S>, StorageError> {
        if self.pipeline.borrow().overflowed() {
            // The commit before grew the file while nothing could be aborted.
            self.refit()?;
        }
        let mut transaction = self.get()?.begin_write().map_err(refused)?;
        transaction.set_quick_repair(self.settings.quick_repair);
        if let Err(stopped) = run(&transaction) {
            let overflowed = self.pipeline.borrow().overflowed();
            if transaction.abort().is_err() {
                self.recover()?;
            }
            if overflowed && self.pipeline.borrow().length() < self.pipeline.borrow().room() {
                self.refit()?;
                return Ok(Commit::Again);
            }
            return Ok(Commit::Aborted(stopped));
        }
        match transaction.commit() {
            Ok(()) => Ok(Commit::Committed(self.pipeline.borrow_mut().closed_count())),
            Err(error) => {
                let pipeline = self.pipeline.borrow();
                let full = StorageError::Full { capacity: pipeline.capacity() };
                let reason = match pipeline.check() {
                    Err(failure) => failure,
                    Ok(()) if pipeline.overflowed() => full,
                    Ok(()) => refused(error),
                };
                drop(pipeline);
                self.recover()?;
                Err(reason)
            }
        }
    }

    /// Closes the database so that the next open need not repair it.
    pub(super) fn close(&mut self) -> Result<(), StorageError> {
        let Some(Open { database, attachment }) = self.take() else { return Ok(()) };
        let result = database.close().map_err(refused);
        drop(attachment);
        result
    }

    /// Opens the database again with a file that fills the device exactly.
    fn refit(&mut self) -> Result<(), StorageError> {
        // Closing trims the file to the pages in use.
        if self.close().is_err() || self.pipeline.borrow().overflowed() {
            return self.recover();
        }
        let mut pipeline = self.pipeline.borrow_mut();
        let room = pipeline.room();
        // The longer length must be durable before redb's header speaks of it, hence the syncs around it.
        let fitted = pipeline.sync().and_then(|()| {
            pipeline.set_length(room);
            pipeline.sync()
        });
        drop(pipeline);
        debug_assert_eq!(fitted, Ok(()), "a length within the room is never refused");
        self.reopen()
    }

    /// Opens the database again as the last sync left it, as if after a crash.
    fn recover(&mut self) -> Result<(), StorageError> {
        if let Some(Open { database, attachment }) = self.take() {
            // First the attachment: the database must not write its end.
            drop(attachment);
            drop(database);
        }
        let mut pipeline = self.pipeline.borrow_mut();
        pipeline.statistics.recoveries += 1;
        log::warn!("a commit ran into the end of the storage or an error: going back to the one before");
        pipeline.discard_unsynced();
        let room = pipeline.room();
        if pipeline.length() > room {
            // Nothing that was committed lies there. redb, opened without having been closed, goes by the file's length.
            pipeline.set_length(room);
            let cut = pipeline.sync();
            debug_assert_eq!(cut, Ok(()), "a length within the room is never refused");
        }
        drop(pipeline);
        self.reopen()
    }
}

/// Tries whether the reserve is free, in a transaction whose changes must leave it so. If it is not, the file overflows.
pub(super) fn probe_reserve(
    transaction: &WriteTransaction,
    pipeline: &RefCell<Pipeline>,
) -> Result<(), StorageError> {
    let (length, room) = (pipeline.borrow().length(), pipeline.borrow().room());
    if length + RESERVED_PAGES * BLOCK_SIZE as u64 <= room {
        return Ok(());
    }
    let mut table = transaction.open_table(RESERVE).map_err(refused)?;
    for page in 0..RESERVED_PAGES {
        table.insert_reserve(page, RESERVE_VALUE).map_err(refused)?;
    }
    drop(table);
    transaction.delete_table(RESERVE).map_err(refused)?;
    Ok(())
}

fn refused(error: impl Into<redb::Error>) -> StorageError {
    StorageError::Database(error.into().to_string())
}
