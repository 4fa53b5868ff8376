//! What an operator looks for: the log, recent events, metrics, health.

mod civil;
mod endpoints;
mod log;
mod metrics;

pub use civil::CivilTime;
pub use endpoints::Endpoints;
pub use log::{RecentEvents, recent_events, start};
pub use metrics::{Metrics, Sample, Source};
