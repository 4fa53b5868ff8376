//! One at a time: a queue of bounded length in front of work that nobody else can do anything beside.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::rc::Rc;

/// Lets one pass at a time, in the order they came.
#[derive(Clone)]
pub struct Gate {
    state: Rc<RefCell<State>>,
    room: usize,
}

#[derive(Default)]
struct State {
    busy: bool,
    next_ticket: u64,
    waiting: VecDeque<(u64, Option<Waker>)>,
}

/// A place in the queue.
pub struct Enter {
    state: Rc<RefCell<State>>,
    ticket: u64,
    entered: bool,
}

/// The right to go on; the next in the queue gets it when this is dropped.
pub struct Pass {
    state: Rc<RefCell<State>>,
}

impl Gate {
    /// A gate with room for `room` who wait.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self { state: Rc::default(), room }
    }

    /// Queues up; `None` when the queue is full.
    #[must_use]
    pub fn enter(&self) -> Option<Enter> {
        let mut state = self.state.borrow_mut();
        if state.waiting.len() >= self.room {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back((ticket, None));
        drop(state);
        Some(Enter { state: Rc::clone(&self.state), ticket, entered: false })
    }
}

impl Future for Enter {
    type Output = Pass;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Pass> {
        let state = Rc::clone(&self.state);
        let mut state = state.borrow_mut();
        let first = state.waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket);
        if first && !state.busy {
            state.waiting.pop_front();
            state.busy = true;
            self.entered = true;
            return Poll::Ready(Pass { state: Rc::clone(&self.state) });
        }
        if let Some((_, waker)) = state.waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        if !self.entered {
            self.state.borrow_mut().waiting.retain(|(ticket, _)| *ticket != self.ticket);
            wake_first(&self.state);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.state.borrow_mut().busy = false;
        wake_first(&self.state);
    }
}

fn wake_first(state: &RefCell<State>) {
    let waker = state.borrow_mut().waiting.front_mut().and_then(|(_, waker)| waker.take());
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(enter: &mut Enter) -> Option<Pass> {
        match Pin::new(enter).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(pass) => Some(pass),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_passes_at_a_time_in_order() {
        let gate = Gate::new(3);
        let [mut first, mut second, mut third] = [(); 3].map(|()| gate.enter().unwrap());
        assert!(gate.enter().is_none(), "the queue is full");
        assert!(poll(&mut second).is_none());
        let pass = poll(&mut first).unwrap();
        assert!(poll(&mut second).is_none());
        drop(pass);
        assert!(poll(&mut third).is_none());
        let pass = poll(&mut second).unwrap();
        drop(pass);
        assert!(poll(&mut third).is_some());
    }

    #[test]
    fn who_leaves_the_queue_holds_up_nobody() {
        let gate = Gate::new(2);
        let (first, mut second) = (gate.enter().unwrap(), gate.enter().unwrap());
        drop(first);
        assert!(poll(&mut second).is_some());
        assert!(gate.enter().is_some());
    }
}
