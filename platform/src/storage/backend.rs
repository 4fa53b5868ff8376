//! The file that redb sees: its [`StorageBackend`], on a [`Pipeline`].
//!
//! redb asks for a backend that may be sent to other threads. There are none, and a pipeline holds devices and wakers
//! of this one; so the backend itself holds only a key, and finds its pipeline in a table of this thread.

use core::cell::RefCell;
use core::fmt;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use redb::StorageBackend;

use super::pipeline::{Fault, Pipeline};

thread_local! {
    static ATTACHED: RefCell<Attached> = const { RefCell::new(Attached { next: 0, pipelines: BTreeMap::new() }) };
}

struct Attached {
    /// Keys are not used again: a database on its way out must not reach another's device.
    next: u64,
    pipelines: BTreeMap<u64, Rc<RefCell<Pipeline>>>,
}

/// Keeps a pipeline attached for as long as its database is to reach it. Once dropped, the database's reads and writes
/// fail: what it would still write as it is dropped itself does not count.
pub(super) struct Attachment {
    key: u64,
}

impl Attachment {
    pub(super) fn new(pipeline: &Rc<RefCell<Pipeline>>) -> Self {
        ATTACHED.with_borrow_mut(|attached| {
            let key = attached.next;
            attached.next += 1;
            attached.pipelines.insert(key, Rc::clone(pipeline));
            Self { key }
        })
    }

    /// The file to open a database on; one at a time.
    pub(super) fn backend(&self) -> Backend {
        Backend { key: self.key }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // When the thread ends, the table may be gone already.
        let pipeline = ATTACHED.try_with(|attached| attached.borrow_mut().pipelines.remove(&self.key));
        drop(pipeline);
    }
}

/// See the module.
pub(super) struct Backend {
    key: u64,
}

impl Backend {
    fn with<T>(&self, run: impl FnOnce(&mut Pipeline) -> Result<T, Fault>) -> io::Result<T> {
        let pipeline = ATTACHED.with_borrow(|attached| attached.pipelines.get(&self.key).cloned());
        let pipeline = pipeline.ok_or_else(|| io::Error::other("the storage is detached"))?;
        let result = run(&mut pipeline.borrow_mut());
        result.map_err(|fault| match fault {
            Fault::PastEnd => io::Error::new(io::ErrorKind::UnexpectedEof, "past the end of the file"),
            Fault::Full => io::Error::new(io::ErrorKind::StorageFull, "the device is full"),
            Fault::Device(_, error) => io::Error::other(error),
        })
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("key", &self.key).finish()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.with(|pipeline| Ok(pipeline.length()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|pipeline| pipeline.read(offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|pipeline| {
            pipeline.set_length(length);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(Pipeline::sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|pipeline| pipeline.write(offset, data))
    }
}
