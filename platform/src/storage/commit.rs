//! Group commit: changes of many callers in one transaction, made durable by one flush.
//!
//! One task takes what has gathered in the queue, runs it in one transaction, waits until the device has flushed it, and
//! then tells every caller. What arrives meanwhile is the next group.
//!
//! Callers that write again as soon as they are told would fall into two groups, each of which waits for the other's
//! flush. So before the next group the task gives those whom it has told a moment to come back, a part of what the flush
//! took. A caller that is alone is never waited for.

use core::any::Any;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;

use redb::WriteTransaction;

use super::database::{Commit, Database, probe_reserve};
use super::error::{StorageError, WriteError};
use super::pipeline::Pipeline;
use crate::executor::Handle;

/// Most changes in one transaction: enough that a flush's cost is shared by many, few enough that running them does not
/// hold up the image for long.
const GROUP_LIMIT: usize = 64;
/// How many changes of a group may fail, each making the others run again, before the rest is left to the next group.
const RESTART_LIMIT: usize = 4;

/// Of the time that a group took, what its callers have to come back before the next one starts without them: little
/// beside a flush, much beside a round trip.
const GATHERING_PART: u32 = 4;
/// Longest time to wait for them: a disk that is slow for once does not make everybody slow.
const GATHERING_LIMIT: Duration = Duration::from_millis(5);

/// A change in the queue.
pub(super) trait Change {
    /// What it is for.
    fn purpose(&self) -> Purpose;
    /// Runs it in a transaction; may be called again in another.
    fn run(&mut self, transaction: &WriteTransaction) -> Ran;
    /// Tells the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StorageError>);
}

/// What a change does to the room on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Takes some, and leaves the reserve alone.
    Store,
    /// Makes some, and may use the reserve for it.
    Reclaim,
}

/// What came of running a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// It is in the transaction.
    Made,
    /// It failed, and may have written before.
    Rejected,
}

/// The queue of changes, and whoever waits for it.
#[derive(Default)]
pub(super) struct Queue {
    changes: VecDeque<Box<dyn Change>>,
    closed: bool,
    committer: Option<Waker>,
}

impl Queue {
    /// Adds a change, or says that no more are taken.
    pub(super) fn push(&mut self, change: Box<dyn Change>) {
        if self.closed {
            return change.finish(Err(StorageError::Closed));
        }
        self.changes.push_back(change);
        self.wake();
    }

    /// Takes no more changes. Those in the queue are still made.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(committer) = self.committer.take() {
            committer.wake();
        }
    }

    /// Completes when `count` changes have gathered, or as many as make a group, or no more are taken.
    fn poll_gathered(&mut self, count: usize, context: &mut Context<'_>) -> Poll<()> {
        if self.closed || self.changes.len() >= count.min(GROUP_LIMIT) {
            return Poll::Ready(());
        }
        self.committer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Completes with the next group, or `None` when closed and empty.
    fn poll_group(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Box<dyn Change>>>> {
        if !self.changes.is_empty() {
            let length = self.changes.len().min(GROUP_LIMIT);
            return Poll::Ready(Some(self.changes.drain(..length).collect()));
        }
        if self.closed {
            return Poll::Ready(None);
        }
        self.committer = Some(context.waker().clone());
        Poll::Pending
    }

    fn put_back(&mut self, changes: impl DoubleEndedIterator<Item = Box<dyn Change>>) {
        changes.rev().for_each(|change| self.changes.push_front(change));
    }
}

/// Commits groups until the queue is closed and empty; then closes the database and the device.
pub(super) async fn commit_groups(
    handle: Handle,
    queue: Rc<RefCell<Queue>>,
    database: Rc<RefCell<Database>>,
    pipeline: Rc<RefCell<Pipeline>>,
) -> Result<(), StorageError> {
    while let Some(group) = poll_fn(|context| queue.borrow_mut().poll_group(context)).await {
        let start = handle.now();
        let (settled, rest) = run_group(group, &database, &pipeline);
        queue.borrow_mut().put_back(rest.into_iter());
        let made = settled.iter().filter(|(_, fate)| matches!(fate, Fate::Committed(_))).count();
        if made > 0 {
            let mut pipeline = pipeline.borrow_mut();
            pipeline.statistics.groups += 1;
            pipeline.statistics.changes += made as u64;
        }
        let told = settled.len();
        for (change, fate) in settled {
            let outcome = match fate {
                Fate::Committed(count) => durable(&pipeline, count).await,
                Fate::Rejected => Ok(()),
                Fate::Refused(error) => Err(error),
            };
            change.finish(outcome);
        }
        let patience = ((handle.now() - start) / GATHERING_PART).min(GATHERING_LIMIT);
        let everybody = queue.borrow().changes.len() + told;
        if everybody > 1 && !patience.is_zero() {
            let gathered = poll_fn(|context| queue.borrow_mut().poll_gathered(everybody, context));
            // Who has not come back by then is in the group after.
            let _ = handle.timeout(patience, gathered).await;
        }
    }
    let closed = database.borrow_mut().close();
    let count = pipeline.borrow().closed_count();
    let flushed = durable(&pipeline, count).await;
    pipeline.borrow_mut().stop();
    closed.and(flushed)
}

/// Completes when the first `count` epochs are durable.
pub(super) async fn durable(pipeline: &Rc<RefCell<Pipeline>>, count: u64) -> Result<(), StorageError> {
    poll_fn(|context| {
        let mut pipeline = pipeline.borrow_mut();
        match pipeline.is_durable(count) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                pipeline.wait(context.waker());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await
}

/// What becomes of a change.
enum Fate {
    /// In the database, and durable when so many epochs are.
    Committed(u64),
    /// It failed by itself.
    Rejected,
    /// The storage could not make it.
    Refused(StorageError),
}

type Settled = Vec<(Box<dyn Change>, Fate)>;

/// Runs a group in one transaction. A change that fails is taken out and the others are run again without it; the second
/// part returned has not been run to its end.
fn run_group(
    group: Vec<Box<dyn Change>>,
    database: &RefCell<Database>,
    pipeline: &RefCell<Pipeline>,
) -> (Settled, Vec<Box<dyn Change>>) {
    let mut settled = Settled::new();
    let mut group = VecDeque::from(group);
    let mut rest = VecDeque::new();
    while !group.is_empty() {
        let attempt = attempt(&mut group, database, pipeline);
        match attempt {
            Ok(Commit::Committed(count)) => {
                settled.extend(group.drain(..).map(|change| (change, Fate::Committed(count))));
            }
            Ok(Commit::Aborted(Stopped { index, fate })) => {
                let tail = group.split_off(index + 1);
                settled.extend(group.pop_back().map(|change| (change, fate)));
                if settled.len() < RESTART_LIMIT {
                    group.extend(tail);
                } else {
                    rest.extend(tail);
                }
            }
            Ok(Commit::Again) => {}
            Err(error) => {
                settled.extend(group.drain(..).map(|change| (change, Fate::Refused(error.clone()))));
            }
        }
    }
    (settled, rest.into())
}

fn attempt(
    group: &mut VecDeque<Box<dyn Change>>,
    database: &RefCell<Database>,
    pipeline: &RefCell<Pipeline>,
) -> Result<Commit<Stopped>, StorageError> {
    pipeline.borrow().check()?;
    database.borrow_mut().transact(|transaction| run_all(group, transaction, pipeline))
}

/// Where a group stopped.
struct Stopped {
    index: usize,
    fate: Fate,
}

fn run_all(
    group: &mut VecDeque<Box<dyn Change>>,
    transaction: &WriteTransaction,
    pipeline: &RefCell<Pipeline>,
) -> Result<(), Stopped> {
    let verdict = |index| {
        let pipeline = pipeline.borrow();
        let full = StorageError::Full { capacity: pipeline.capacity() };
        let refusal = match pipeline.check() {
            Err(failure) => failure,
            Ok(()) if pipeline.overflowed() => full,
            Ok(()) => return Ok(()),
        };
        Err(Stopped { index, fate: Fate::Refused(refusal) })
    };
    for (index, change) in group.iter_mut().enumerate() {
        let ran = change.run(transaction);
        verdict(index)?;
        if ran == Ran::Rejected {
            return Err(Stopped { index, fate: Fate::Rejected });
        }
    }
    // Of the changes that together left too little, the last one yields.
    if let Some(index) = group.iter().rposition(|change| change.purpose() == Purpose::Store) {
        let probed = probe_reserve(transaction, pipeline);
        verdict(index)?;
        probed.map_err(|error| Stopped { index, fate: Fate::Refused(error) })?;
    }
    Ok(())
}

/// The caller's end of a change.
struct Reply<T, E> {
    result: Option<Result<T, WriteError<E>>>,
    panic: Option<Box<dyn Any + Send>>,
    waker: Option<Waker>,
}

/// The queue's end.
struct Submission<T, E, F> {
    change: F,
    purpose: Purpose,
    result: Option<Result<T, E>>,
    panic: Option<Box<dyn Any + Send>>,
    reply: Rc<RefCell<Reply<T, E>>>,
}

impl<T, E, F: FnMut(&WriteTransaction) -> Result<T, E>> Change for Submission<T, E, F> {
    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn run(&mut self, transaction: &WriteTransaction) -> Ran {
        self.result = None;
        match catch_unwind(AssertUnwindSafe(|| (self.change)(transaction))) {
            Ok(result) => {
                let ran = if result.is_ok() { Ran::Made } else { Ran::Rejected };
                self.result = Some(result);
                ran
            }
            Err(panic) => {
                self.panic = Some(panic);
                Ran::Rejected
            }
        }
    }

    fn finish(mut self: Box<Self>, outcome: Result<(), StorageError>) {
        let result = match (outcome, self.result.take()) {
            (Err(error), _) => Some(Err(WriteError::Storage(error))),
            (Ok(()), Some(result)) => Some(result.map_err(WriteError::Rejected)),
            (Ok(()), None) => None,
        };
        let mut reply = self.reply.borrow_mut();
        reply.result = result;
        reply.panic = self.panic.take();
    }
}

impl<T, E, F> Drop for Submission<T, E, F> {
    fn drop(&mut self) {
        let mut reply = self.reply.borrow_mut();
        if reply.result.is_none() && reply.panic.is_none() {
            reply.result = Some(Err(WriteError::Storage(StorageError::Closed)));
        }
        if let Some(waker) = reply.waker.take() {
            waker.wake();
        }
    }
}

/// Completes when a change is durable, or will never be. Dropping it does not take the change back.
#[must_use = "without it nobody learns whether the change was made"]
pub struct Write<T, E> {
    reply: Rc<RefCell<Reply<T, E>>>,
}

/// A change for the queue, and the future of its outcome.
pub(super) fn submission<T: 'static, E: 'static>(
    change: impl FnMut(&WriteTransaction) -> Result<T, E> + 'static,
    purpose: Purpose,
) -> (Box<dyn Change>, Write<T, E>) {
    let reply = Rc::new(RefCell::new(Reply { result: None, panic: None, waker: None }));
    let write = Write { reply: Rc::clone(&reply) };
    (Box::new(Submission { change, purpose, result: None, panic: None, reply }), write)
}

impl<T, E> Future for Write<T, E> {
    type Output = Result<T, WriteError<E>>;

    /// # Panics
    /// If the change did.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut reply = self.reply.borrow_mut();
        if let Some(panic) = reply.panic.take() {
            drop(reply);
            resume_unwind(panic);
        }
        match reply.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                reply.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
