//! The wish from outside that the image stop: SIGTERM to the process, the power button of the virtual machine.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::rc::Rc;

/// Tells everybody who waits that the image is to stop. Clones share the one wish.
#[derive(Clone, Default)]
pub struct Shutdown {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    requested: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Shutdown {
    /// Asks the image to stop. Asking again changes nothing.
    pub fn request(&self) {
        self.shared.requested.set(true);
        let waiting = self.shared.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the image has been asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.shared.requested.get()
    }

    /// Completes when the image is asked to stop.
    pub async fn requested(&self) {
        poll_fn(|context| {
            if self.is_requested() {
                return Poll::Ready(());
            }
            let mut waiting = self.shared.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
