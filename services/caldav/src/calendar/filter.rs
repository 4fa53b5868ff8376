//! The filter of `calendar-query` (RFC 4791 clause 9.7) and its evaluation.

use super::TimeRange;
use crate::contentline::matching::{ParameterFilter, TextMatch};

/// `CALDAV:filter`: always about VCALENDAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The `comp-filter` for VCALENDAR.
    pub calendar: ComponentFilter,
}

/// `comp-filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentFilter {
    /// The component's name, in any case.
    pub name: String,
    /// What is asked of it.
    pub condition: ComponentCondition,
}

/// What a [`ComponentFilter`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentCondition {
    /// There is none of this name (`is-not-defined`).
    NotDefined,
    /// One of this name meets all of these.
    Defined {
        /// An instance overlaps this time (clause 9.9).
        time_range: Option<TimeRange>,
        /// Properties.
        properties: Vec<PropertyFilter>,
        /// Components inside.
        components: Vec<ComponentFilter>,
    },
}

/// `prop-filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyFilter {
    /// The property's name, in any case.
    pub name: String,
    /// What is asked of it.
    pub condition: PropertyCondition,
}

/// What a [`PropertyFilter`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyCondition {
    /// There is none of this name (`is-not-defined`).
    NotDefined,
    /// One of this name meets all of these.
    Defined {
        /// Its date or period overlaps this time.
        time_range: Option<TimeRange>,
        /// Its value as text.
        text: Option<TextMatch>,
        /// Its parameters.
        parameters: Vec<ParameterFilter>,
    },
}
