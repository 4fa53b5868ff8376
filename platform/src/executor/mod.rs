//! Cooperative scheduling on one thread.
//!
//! [`Executor::run`] goes round three steps: poll each task that is ready **once**, let the host deliver device events
//! (sleeping when nothing is ready), fire the timers that are due. So a task that always has work cannot starve the
//! others, and a flood on one device cannot starve timers. Within its one poll a task is held to a budget of socket
//! operations ([`Handle::poll_budget`]).
//!
//! The order of polls follows from the order of wake-ups alone: with a [`ManualClock`](crate::device::ManualClock) and
//! a simulated host every run of a seed is the same run.
//!
//! Everything is reached through a [`Handle`], which is passed, not global: a test may run two nodes on one executor,
//! or two executors.

mod task;
mod timer;
mod wheel;

pub use task::{JoinError, JoinHandle};
pub use timer::{Elapsed, Sleep, Timeout};
pub use wheel::{TimerKey, TimerWheel};

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::device::{Clock, Instant, WallTime};
use crate::host::Host;
use task::{ReadyQueue, Tasks};

/// Socket operations that a task may complete in one poll before it has to let others run.
const BUDGET: u32 = 128;

struct Shared {
    clock: Rc<dyn Clock>,
    tasks: RefCell<Tasks>,
    ready: Arc<ReadyQueue>,
    timers: RefCell<TimerWheel<Waker>>,
    budget: Cell<u32>,
    panics: Cell<u64>,
}

/// Owns the tasks and runs them. Dropped, it drops them.
pub struct Executor {
    shared: Rc<Shared>,
}

/// Spawns tasks and makes timers. Clones are cheap and lead to the same executor.
#[derive(Clone)]
pub struct Handle {
    shared: Weak<Shared>,
    clock: Rc<dyn Clock>,
}

impl Executor {
    /// An executor without tasks, that reads time from `clock`.
    #[must_use]
    pub fn new(clock: Rc<dyn Clock>) -> Self {
        let timers = RefCell::new(TimerWheel::new(clock.now()));
        Self {
            shared: Rc::new(Shared {
                clock,
                tasks: RefCell::default(),
                ready: Arc::default(),
                timers,
                budget: Cell::new(BUDGET),
                panics: Cell::new(0),
            }),
        }
    }

    /// A handle to this executor.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Rc::downgrade(&self.shared), clock: Rc::clone(&self.shared.clock) }
    }

    /// Runs tasks until `main` is done, and returns what came of it. Tasks still running then stay, and go on in the
    /// next `run`.
    ///
    /// # Errors
    /// [`JoinError::Panicked`] if `main` panicked.
    pub fn run<T: 'static>(
        &self,
        host: &dyn Host,
        main: impl Future<Output = T> + 'static,
    ) -> Result<T, JoinError> {
        let handle = self.handle().spawn(main);
        loop {
            self.turn();
            if let Some(result) = handle.take_result() {
                return result;
            }
            let until = if self.shared.ready.is_empty() {
                self.shared.timers.borrow().next_deadline()
            } else {
                Some(Instant::START)
            };
            host.wait(until);
            self.fire_timers();
        }
    }

    /// Polls each task that is ready now once. Returns how many there were.
    pub fn turn(&self) -> usize {
        let ready = self.shared.ready.len();
        for _ in 0..ready {
            let Some(key) = self.shared.ready.pop() else { break };
            self.poll_task(key);
        }
        ready
    }

    /// When the next timer is due, for those who drive an executor by [`Self::turn`].
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.shared.timers.borrow().next_deadline()
    }

    /// Fires the timers that are due.
    pub fn fire_timers(&self) {
        let now = self.shared.clock.now();
        // Wakers are collected before they are woken: waking runs code of others, which may set timers.
        let mut due = Vec::new();
        self.shared.timers.borrow_mut().expire(now, |waker| due.push(waker));
        due.into_iter().for_each(Waker::wake);
    }

    fn poll_task(&self, key: task::TaskKey) {
        let Some((mut future, waker)) = self.shared.tasks.borrow_mut().begin_poll(key) else { return };
        self.shared.budget.set(BUDGET);
        let mut context = Context::from_waker(&waker);
        let polled =
            std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {
                let cancelled = self.shared.tasks.borrow_mut().end_poll(key, future);
                drop(cancelled);
            }
            Ok(Poll::Ready(())) => self.shared.tasks.borrow_mut().remove(key),
            Err(_) => {
                self.shared.panics.set(self.shared.panics.get() + 1);
                self.shared.tasks.borrow_mut().remove(key);
                // Dropping what a panic left half done may panic again; that, too, must not end the image.
                let _ = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(future)));
            }
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Futures hold handles and may cancel each other as they go: take them all out first.
        let futures = self.shared.tasks.borrow_mut().take_all();
        drop(futures);
    }
}

impl Handle {
    /// Starts a task. Dropping the [`JoinHandle`] lets it run on; [`JoinHandle::cancel`] ends it.
    ///
    /// On an executor that is gone the task never runs.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        match self.shared.upgrade() {
            Some(shared) => task::spawn(&shared.tasks, &shared.ready, self.shared.clone(), future),
            None => JoinHandle::never(),
        }
    }

    /// Now on the monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Now on the wall clock.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    /// The clock itself.
    #[must_use]
    pub fn clock(&self) -> &Rc<dyn Clock> {
        &self.clock
    }

    /// Completes once `duration` has passed, at most two milliseconds late.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// Completes once `deadline` has come.
    #[must_use]
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(self.clone(), deadline)
    }

    /// Runs `future` for at most `duration`.
    #[must_use]
    pub fn timeout<F: Future>(&self, duration: Duration, future: F) -> Timeout<F> {
        Timeout::new(self.sleep(duration), future)
    }

    /// Lets every other ready task run once.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        core::future::poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Spends one operation of the running task's budget. `Pending` when it is used up; the task is then already woken
    /// to go on after the others. Every socket operation that succeeds at once spends one.
    pub fn poll_budget(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.shared.upgrade() else { return Poll::Ready(()) };
        match shared.budget.get().checked_sub(1) {
            Some(left) => {
                shared.budget.set(left);
                Poll::Ready(())
            }
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// How many tasks have panicked. Each was caught and dropped; the image went on.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.upgrade().map_or(0, |shared| shared.panics.get())
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.shared.upgrade().map_or(0, |shared| shared.tasks.borrow().len())
    }

    fn set_timer(&self, deadline: Instant, waker: Waker) -> Option<TimerKey> {
        Some(self.shared.upgrade()?.timers.borrow_mut().insert(deadline, waker))
    }

    fn reset_timer_waker(&self, key: TimerKey, waker: &Waker) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let mut timers = shared.timers.borrow_mut();
        let Some(stored) = timers.get_mut(key) else { return false };
        stored.clone_from(waker);
        true
    }

    fn cancel_timer(&self, key: TimerKey) {
        if let Some(shared) = self.shared.upgrade() {
            let waker = shared.timers.borrow_mut().remove(key);
            drop(waker);
        }
    }

    fn cancel_task(&self, key: task::TaskKey) {
        if let Some(shared) = self.shared.upgrade() {
            let future = shared.tasks.borrow_mut().cancel(key);
            drop(future);
        }
    }
}

#[cfg(test)]
mod tests;
