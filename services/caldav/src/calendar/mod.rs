//! iCalendar: validation, time zones, recurrence, filters.

pub mod expansion;
mod filter;
pub mod rule;
pub mod time;
pub mod zone;

pub use filter::{ComponentCondition, ComponentFilter, Filter, PropertyCondition, PropertyFilter};
pub use time::TimeRange;
pub use zone::Zone;
