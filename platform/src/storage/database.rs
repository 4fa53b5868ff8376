//! The redb database on a pipeline: opened, opened again when its file must change under it, closed.

use core::cell::RefCell;
use std::rc::Rc;

use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

use super::backend::Attachment;
use super::error::StorageError;
use super::pipeline::Pipeline;

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
    /// `None` if opening it again has failed.
    open: Option<Open>,
    cache_bytes: usize,
    pipeline: Rc<RefCell<Pipeline>>,
}

struct Open {
    database: redb::Database,
    attachment: Attachment,
}

impl Database {
    /// Opens the database in the pipeline's file, or creates it in an empty one.
    pub(super) fn open(
        pipeline: &Rc<RefCell<Pipeline>>,
        cache_bytes: usize,
    ) -> Result<Self, redb::DatabaseError> {
        let mut database = Self { open: None, cache_bytes, pipeline: Rc::clone(pipeline) };
        database.open_file()?;
        Ok(database)
    }

    fn open_file(&mut self) -> Result<(), redb::DatabaseError> {
        let attachment = Attachment::new(&self.pipeline);
        let database = redb::Database::builder()
            .set_cache_size(self.cache_bytes)
            .create_with_backend(attachment.backend())?;
        self.open = Some(Open { database, attachment });
        Ok(())
    }

    fn get(&self) -> Result<&redb::Database, StorageError> {
        self.open.as_ref().map(|open| &open.database).ok_or(StorageError::Closed)
    }

    /// A view of what has been committed.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StorageError> {
        self.get()?.begin_read().map_err(|error| StorageError::Database(error.to_string()))
    }

    /// Runs `run` in a transaction and commits it, unless `run` stops it.
    pub(super) fn transact<S>(
        &mut self,
        run: impl FnOnce(&WriteTransaction) -> Result<(), S>,
    ) -> Result<Commit<S>, StorageError> {
        let transaction =
            self.get()?.begin_write().map_err(|error| StorageError::Database(error.to_string()))?;
        if let Err(stopped) = run(&transaction) {
            transaction.abort().map_err(|error| StorageError::Database(error.to_string()))?;
            return Ok(Commit::Aborted(stopped));
        }
        transaction.commit().map_err(|error| StorageError::Database(error.to_string()))?;
        let count = self.pipeline.borrow_mut().sync();
        Ok(Commit::Committed(count))
    }

    /// Closes the database so that the next open need not repair it.
    pub(super) fn close(&mut self) -> Result<(), StorageError> {
        let Some(Open { database, attachment }) = self.open.take() else { return Ok(()) };
        let result = database.close().map_err(|error| StorageError::Database(error.to_string()));
        drop(attachment);
        result
    }
}
