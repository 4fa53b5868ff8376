//! iCalendar: validation, time zones, recurrence, filters.
//!
//! Before working on this folder read RFC 5545, RFC 4791 clauses 4, 5.3.2.1, 7.8 to 7.10 and 9.6 to 9.9.
//!
//! | file | what it is |
//! |---|---|
//! | `validate` | what may be stored, and its summary for the index |
//! | [`time`], [`zone`] | dates as numbers, and the clocks they are on |
//! | [`rule`], [`expansion`] | a recurrence rule, and the times it makes |
//! | [`object`] | a calendar object and its instances |
//! | `filter`, `overlap` | the filter of `calendar-query` and the tables of clause 9.9 |
//! | `data` | what `calendar-data` asks to be left out or expanded |
//! | `freebusy` | when a calendar is busy |

mod data;
pub mod expansion;
mod filter;
mod freebusy;
pub mod object;
mod overlap;
pub mod rule;
#[cfg(test)]
mod tests;
pub mod time;
mod validate;
pub mod zone;

pub use data::{CalendarData, ComponentData, DataError, PropertyData};
pub use filter::{
    ComponentCondition, ComponentFilter, Filter, Preliminary, PropertyCondition, PropertyFilter,
};
pub use freebusy::FreeBusy;
pub use time::TimeRange;
pub use validate::{Invalid, MAX_UID_BYTES, validate};
pub use zone::Zone;

/// Most instances of a stored object that does not recur for ever, and most instances written for one object by an
/// expansion (`max-instances`, RFC 4791 clause 5.2.8). Twenty-seven years of days; expanded, such an object of 1 KB has
/// 10 MB.
pub const MAX_INSTANCES: u32 = 10_000;
