//! What the service counts for its operators.

use core::cell::Cell;
use std::rc::Rc;

use platform::observe::{Metrics, Sample};

/// Requests and log-ins since the start.
#[derive(Default)]
pub(super) struct Counts {
    /// Answers by the first digit of their status.
    pub(super) answers: [Cell<u64>; 5],
    /// Passwords that were checked and right.
    pub(super) right_passwords: Cell<u64>,
    /// Passwords that were checked and wrong.
    pub(super) wrong_passwords: Cell<u64>,
    /// Requests that were not looked at because of failures before.
    pub(super) slowed_down: Cell<u64>,
}

/// One more.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get().wrapping_add(1));
}

impl Counts {
    /// Counts an answer.
    pub(super) fn answered(&self, status: u16) {
        if let Some(counter) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            count(counter);
        }
    }
}

/// Tells `metrics` of the service.
pub(super) fn register(metrics: &Metrics, counts: Rc<Counts>) {
    metrics.add(move |sample: &mut Sample| {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let answers = classes.into_iter().zip(counts.answers.iter().map(Cell::get));
        sample.counters("caldav_answers", "Answers by class of status.", "class", answers);
        let checks = [
            ("right", counts.right_passwords.get()),
            ("wrong", counts.wrong_passwords.get()),
            ("slowed_down", counts.slowed_down.get()),
        ];
        sample.counters(
            "caldav_passwords",
            "Passwords that were checked, or not for failures before.",
            "outcome",
            checks,
        );
    });
}
