//! Durable storage: a redb database on a block device, with group commit.
//!
//! From the service down:
//!
//! 1. [`Storage::write`] queues a change. One task runs all changes that have gathered in **one** redb transaction, and
//!    completes them when the device has flushed it (`commit`).
//! 2. redb writes pages to what it takes for a file (`backend`): in truth they stay in memory (`overlay`), each sync
//!    of the database ending an *epoch*.
//! 3. Epochs go to the device in order (`pipeline`): all writes of one, a flush, and only then the writes of the next.
//!    So redb never waits for the device when it writes, and finds after a crash exactly what its own rules promise.
//! 4. The device begins with a superblock in two copies (`superblock`); the database file follows at 64 KiB.
//!
//! # Choices in redb
//!
//! Commits are `Durability::Immediate` and in one phase: one sync, hence one flush, for a group. Pages carry checksums,
//! so a commit torn by a crash is noticed and the one before it is taken. The price is that after a crash redb walks its
//! trees to verify them and to find the free pages: `tests/bench/storage` measures 0.1 s for 50,000 values of 1 KiB
//! on a disk in memory, one read for each page and pass on any other. redb's *quick repair*
//! ([`StorageOptions::quick_repair`]) saves that walk, but needs two flushes in each commit and writes the whole map of
//! free pages with it (128 KiB for each GiB).
//!
//! # What a reader sees
//!
//! [`Storage::read`] sees what has been committed, which the device may not have flushed yet. Whoever must not show
//! what a crash can still take back awaits the write first, as the one who made it does. After the device has failed,
//! reads go on and may show a change whose maker was told that it failed; the next start does not.

mod backend;
mod check;
mod commit;
mod database;
mod error;
mod open;
mod overlay;
mod pipeline;
mod read_ahead;
mod statistics;
mod superblock;

pub use check::{CheckReport, Integrity, check, check_content};
pub use commit::Write;
pub use error::{OpenError, StorageError, WriteError};
pub use open::{MINIMUM_CAPACITY, StorageOptions};
pub use statistics::{FLUSH_LATENCY_BOUNDS, Statistics};

use core::cell::RefCell;
use std::rc::Rc;

use redb::{ReadTransaction, WriteTransaction};

use crate::device::Block;
use crate::executor::{Handle, JoinHandle};
use commit::{Purpose, Queue};
use database::Database;
use pipeline::Pipeline;

/// An open storage. Clones share it. When the last is dropped, it closes as by [`Storage::close`], in the background.
#[derive(Clone)]
pub struct Storage {
    shared: Rc<Shared>,
}

struct Shared {
    queue: Rc<RefCell<Queue>>,
    database: Rc<RefCell<Database>>,
    pipeline: Rc<RefCell<Pipeline>>,
    committer: RefCell<Option<JoinHandle<Result<(), StorageError>>>>,
}

impl Storage {
    /// Opens the storage on a device, formatting it if it is blank.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has then been written, unless the device itself failed.
    pub async fn open(
        handle: &Handle,
        device: Box<dyn Block>,
        options: &StorageOptions,
    ) -> Result<Self, OpenError> {
        let opened = open::open(handle, device, options).await?;
        let queue = Rc::new(RefCell::new(Queue::default()));
        let database = Rc::new(RefCell::new(opened.database));
        let committer = handle.spawn(commit::commit_groups(
            handle.clone(),
            Rc::clone(&queue),
            Rc::clone(&database),
            Rc::clone(&opened.pipeline),
        ));
        let committer = RefCell::new(Some(committer));
        Ok(Self { shared: Rc::new(Shared { queue, database, pipeline: opened.pipeline, committer }) })
    }

    /// Makes a change, together with those of other callers, and completes when it is durable.
    ///
    /// The closure must be re-runnable: when another change of its group fails, it runs again in a new transaction that
    /// knows nothing of the first. If it returns an error, nothing it wrote is kept. A condition that is not met (an
    /// ETag, a name that exists) is better returned as a value, with nothing written: an error makes the others of the
    /// group run again.
    ///
    /// The change is made even if the future is dropped. It panics if the closure does. The queue has no limit of its own:
    /// a caller has as many changes in it as it does not wait for.
    ///
    /// # Errors
    /// [`WriteError::Rejected`] with the closure's error; [`WriteError::Storage`] if the storage is full, has failed or
    /// is closed.
    pub fn write<T: 'static, E: 'static>(
        &self,
        change: impl FnMut(&WriteTransaction) -> Result<T, E> + 'static,
    ) -> Write<T, E> {
        let (change, write) = commit::submission(change, Purpose::Store);
        self.shared.queue.borrow_mut().push(change);
        write
    }

    /// As [`Storage::write`], for a change that makes room: it may use the pages that are kept in reserve when the device
    /// is full, since deleting, too, writes before it frees.
    ///
    /// # Errors
    /// As [`Storage::write`].
    pub fn reclaim<T: 'static, E: 'static>(
        &self,
        change: impl FnMut(&WriteTransaction) -> Result<T, E> + 'static,
    ) -> Write<T, E> {
        let (change, write) = commit::submission(change, Purpose::Reclaim);
        self.shared.queue.borrow_mut().push(change);
        write
    }

    /// Looks at what has been committed. The closure should be short: nothing else runs meanwhile. Nothing that redb hands
    /// out may be kept beyond it.
    ///
    /// # Errors
    /// [`StorageError`] if the storage is closed or its device cannot be read.
    pub fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> T) -> Result<T, StorageError> {
        let transaction = self.shared.database.borrow().begin_read()?;
        Ok(look(&transaction))
    }

    /// Completes when everything that has been committed so far is durable.
    ///
    /// # Errors
    /// [`StorageError::Failed`] if the device has failed.
    pub async fn flush(&self) -> Result<(), StorageError> {
        let count = self.shared.pipeline.borrow().closed_count();
        commit::durable(&self.shared.pipeline, count).await
    }

    /// Makes the changes that have been queued, closes the database cleanly, and completes when that is durable. Every
    /// later use is refused.
    ///
    /// # Errors
    /// [`StorageError`] if not everything could be written; the next open then repairs the database.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.shared.queue.borrow_mut().close();
        let committer = self.shared.committer.borrow_mut().take();
        match committer {
            Some(committer) => {
                committer.await.unwrap_or_else(|error| Err(StorageError::Database(error.to_string())))
            }
            None => Ok(()),
        }
    }

    /// What the storage has done.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let pipeline = self.shared.pipeline.borrow();
        Statistics {
            pending_bytes: pipeline.pending_bytes() as u64,
            length: pipeline.length(),
            ..pipeline.statistics.clone()
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.borrow_mut().close();
    }
}

#[cfg(test)]
mod tests;
