//! A host without an outside: time passes by jumping to the next deadline.

use std::rc::Rc;

use super::Host;
use crate::device::{Instant, ManualClock};

/// The host of simulations: sleeping moves the clock. Simulated devices deliver their events by timers.
pub struct SimulatedHost {
    clock: Rc<ManualClock>,
}

impl SimulatedHost {
    /// A host that moves `clock`.
    #[must_use]
    pub fn new(clock: Rc<ManualClock>) -> Self {
        Self { clock }
    }
}

impl Host for SimulatedHost {
    /// # Panics
    /// With nothing to wait for: the simulation is stuck.
    fn wait(&self, until: Option<Instant>) {
        self.clock.advance_to(until.expect("every task waits for something that no timer will bring"));
    }
}
