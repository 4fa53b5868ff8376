//! Tasks: their futures, their wakers, and what waits for their end.

use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use slab::Slab;

use super::{Handle, Shared};

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Names a task; never used for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskKey {
    index: usize,
    generation: u64,
}

/// The tasks that have been woken, first come first served.
///
/// A waker must be `Send` by `std`'s contract, hence the lock; there is one thread, so it is never contended.
#[derive(Default)]
pub(super) struct ReadyQueue(Mutex<VecDeque<TaskKey>>);

impl ReadyQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<TaskKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pop(&self) -> Option<TaskKey> {
        self.lock().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

struct TaskWaker {
    key: TaskKey,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().push_back(self.key);
        }
    }
}

struct Slot {
    generation: u64,
    /// Absent while the task is being polled.
    future: Option<TaskFuture>,
    cancelled: bool,
    waker: Arc<TaskWaker>,
}

/// Every task of an executor.
#[derive(Default)]
pub(super) struct Tasks {
    slots: Slab<Slot>,
    generations: u64,
}

impl Tasks {
    fn slot(&mut self, key: TaskKey) -> Option<&mut Slot> {
        self.slots.get_mut(key.index).filter(|slot| slot.generation == key.generation)
    }

    fn insert(&mut self, future: TaskFuture, ready: &Arc<ReadyQueue>) -> TaskKey {
        self.generations += 1;
        let entry = self.slots.vacant_entry();
        let key = TaskKey { index: entry.key(), generation: self.generations };
        let waker = Arc::new(TaskWaker { key, queued: AtomicBool::new(false), ready: Arc::clone(ready) });
        waker.wake_by_ref();
        entry.insert(Slot { generation: key.generation, future: Some(future), cancelled: false, waker });
        key
    }

    pub(super) fn begin_poll(&mut self, key: TaskKey) -> Option<(TaskFuture, Waker)> {
        let slot = self.slot(key)?;
        slot.waker.queued.store(false, Ordering::Release);
        let future = slot.future.take()?;
        Some((future, Waker::from(Arc::clone(&slot.waker))))
    }

    /// Puts the future back, or returns it to be dropped if the task was cancelled while it ran.
    pub(super) fn end_poll(&mut self, key: TaskKey, future: TaskFuture) -> Option<TaskFuture> {
        match self.slot(key) {
            Some(slot) if !slot.cancelled => {
                slot.future = Some(future);
                None
            }
            Some(_) => {
                self.remove(key);
                Some(future)
            }
            None => Some(future),
        }
    }

    pub(super) fn remove(&mut self, key: TaskKey) {
        if self.slot(key).is_some() {
            self.slots.remove(key.index);
        }
    }

    /// Ends a task. The future is returned to be dropped when `self` is no longer borrowed; a task that is being polled
    /// ends when that poll does.
    pub(super) fn cancel(&mut self, key: TaskKey) -> Option<TaskFuture> {
        let slot = self.slot(key)?;
        slot.cancelled = true;
        let future = slot.future.take()?;
        self.remove(key);
        Some(future)
    }

    pub(super) fn take_all(&mut self) -> Vec<TaskFuture> {
        self.slots.drain().filter_map(|slot| slot.future).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Why there is no result of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The task panicked.
    Panicked,
    /// The task was cancelled.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Cancelled => "the task was cancelled",
        })
    }
}

impl std::error::Error for JoinError {}

struct Join<T> {
    result: Option<Result<T, JoinError>>,
    waker: Option<Waker>,
}

/// Lives in the task's future: however that ends, the one who waits is told.
struct Completer<T>(Rc<RefCell<Join<T>>>);

impl<T> Completer<T> {
    fn complete(&self, result: Result<T, JoinError>) {
        let mut join = self.0.borrow_mut();
        if join.result.is_none() {
            join.result = Some(result);
        }
        if let Some(waker) = join.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        let error = if std::thread::panicking() { JoinError::Panicked } else { JoinError::Cancelled };
        self.complete(Err(error));
    }
}

pin_project_lite::pin_project! {
    /// A task's future and what to do with its result. An `async` block would hold the future twice: as what it captured
    /// and as what it awaits.
    struct Spawned<F, T> {
        #[pin]
        future: Option<F>,
        completer: Option<Completer<T>>,
    }
}

impl<F: Future<Output = T>, T> Future for Spawned<F, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        // Held here while the future runs: if that panics, the completer is dropped by the unwinding, and can tell.
        let completer = this.completer.take();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let Poll::Ready(result) = future.poll(context) else {
            *this.completer = completer;
            return Poll::Pending;
        };
        this.future.set(None);
        if let Some(completer) = completer {
            completer.complete(Ok(result));
        }
        Poll::Ready(())
    }
}

pub(super) fn spawn<T: 'static>(
    tasks: &RefCell<Tasks>,
    ready: &Arc<ReadyQueue>,
    executor: Weak<Shared>,
    future: impl Future<Output = T> + 'static,
) -> JoinHandle<T> {
    let join = Rc::new(RefCell::new(Join { result: None, waker: None }));
    let completer = Some(Completer(Rc::clone(&join)));
    let task = Spawned { future: Some(future), completer };
    let key = tasks.borrow_mut().insert(Box::pin(task), ready);
    JoinHandle { join, task: Some((executor, key)) }
}

/// A task's end, to wait for or to bring about. Dropping it does neither.
pub struct JoinHandle<T> {
    join: Rc<RefCell<Join<T>>>,
    task: Option<(Weak<Shared>, TaskKey)>,
}

impl<T> JoinHandle<T> {
    pub(super) fn never() -> Self {
        let join = Join { result: Some(Err(JoinError::Cancelled)), waker: None };
        Self { join: Rc::new(RefCell::new(join)), task: None }
    }

    /// Ends the task at its next suspension point; its future is dropped.
    pub fn cancel(&self) {
        if let Some((executor, key)) = &self.task
            && let Some(shared) = executor.upgrade()
        {
            let clock = Rc::clone(&shared.clock);
            Handle { shared: executor.clone(), clock }.cancel_task(*key);
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.borrow().result.is_some()
    }

    pub(super) fn take_result(&self) -> Option<Result<T, JoinError>> {
        self.join.borrow_mut().result.take()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut join = self.join.borrow_mut();
        match join.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                join.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
