//! What an operator looks for: the log, recent events, metrics, health.

mod civil;
mod log;

pub use civil::CivilTime;
pub use log::{RecentEvents, recent_events, start};
