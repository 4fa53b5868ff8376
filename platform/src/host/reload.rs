//! The wish from outside that the configuration be read again: SIGHUP to the process.

use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};
use std::rc::Rc;

/// Tells the one who waits that the configuration is to be read again. Clones share the wish; wishes that come before
/// it is taken are one.
#[derive(Clone, Default)]
pub struct Reload {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    requested: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Reload {
    /// Asks that the configuration be read again.
    pub fn request(&self) {
        self.shared.requested.set(true);
        if let Some(waker) = self.shared.waiting.take() {
            waker.wake();
        }
    }

    /// Takes the wish, if there is one; otherwise wakes the context at the next. One task may wait.
    pub(crate) fn poll_requested(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.requested.take() {
            return Poll::Ready(());
        }
        *self.shared.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}
