//! What an operator looks for: the log, recent events, metrics, health.

mod civil;

pub use civil::CivilTime;
