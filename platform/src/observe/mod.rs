//! What an operator looks for: the log, recent events, metrics, health.

mod civil;
mod endpoints;
mod log;
mod metrics;
mod syslog;

pub use civil::CivilTime;
pub use endpoints::Endpoints;
pub use log::{RecentEvents, Sink, add_sink, recent_events, start};
pub use metrics::{Metrics, Sample, Source};
pub use syslog::Syslog;
