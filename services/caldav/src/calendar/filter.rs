//! The filter of `calendar-query` (RFC 4791 clause 9.7) and its evaluation.

use std::ops::ControlFlow;

use super::object::Object;
use super::overlap::{alarm_overlaps, overlaps};
use super::time::{DAY, Form};
use super::{TimeRange, Zone};
use crate::contentline::matching::{ParameterFilter, TextMatch};
use crate::contentline::{Component as Part, Property, decode};
use crate::index::{Component, Span, Summary};

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

/// What a summary in the index already tells of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preliminary {
    /// The resource does not match.
    No,
    /// It matches.
    Yes,
    /// The resource must be read.
    Look,
}

impl Filter {
    /// What can be said of a resource without reading it.
    #[must_use]
    pub fn preliminary(&self, summary: &Summary) -> Preliminary {
        if !self.calendar.name.eq_ignore_ascii_case("VCALENDAR") {
            return Preliminary::No;
        }
        let ComponentCondition::Defined { time_range: None, properties, components } =
            &self.calendar.condition
        else {
            return Preliminary::Look;
        };
        let mut verdict = if properties.is_empty() { Preliminary::Yes } else { Preliminary::Look };
        for filter in components {
            // The resource has exactly one kind of these; of others, time zones say, the index knows nothing.
            let Some(component) = Component::of_name(&filter.name) else {
                verdict = Preliminary::Look;
                continue;
            };
            let here = component == summary.component;
            match &filter.condition {
                ComponentCondition::NotDefined if here => return Preliminary::No,
                ComponentCondition::NotDefined => {}
                ComponentCondition::Defined { .. } if !here => return Preliminary::No,
                ComponentCondition::Defined { time_range, properties, components } => {
                    if let Some(range) = time_range {
                        let span = Span { start: range.first(), end: range.after() };
                        if !summary.span.may_meet(span) {
                            return Preliminary::No;
                        }
                        verdict = Preliminary::Look;
                    }
                    if !properties.is_empty() || !components.is_empty() {
                        verdict = Preliminary::Look;
                    }
                }
            }
        }
        verdict
    }

    /// Whether a calendar object matches. `floating` is the zone of the query, else of the collection
    /// ([`Zone::of_collection`]). What is not a calendar object does not match.
    #[must_use]
    pub fn matches(&self, bytes: &[u8], floating: &Zone) -> bool {
        let Ok(text) = decode(bytes) else { return false };
        let Ok(object) = Object::parse(&text, floating) else { return false };
        self.matches_object(&object)
    }

    /// Whether a parsed calendar object matches.
    #[must_use]
    pub fn matches_object(&self, object: &Object<'_>) -> bool {
        if !self.calendar.name.eq_ignore_ascii_case("VCALENDAR") {
            return false;
        }
        match &self.calendar.condition {
            ComponentCondition::NotDefined => false,
            ComponentCondition::Defined { time_range: Some(_), .. } => false,
            ComponentCondition::Defined { time_range: None, properties, components } => {
                let calendar = object.calendar();
                properties.iter().all(|filter| filter.matches(object, calendar))
                    && components.iter().all(|filter| filter.matches(object, calendar, None))
            }
        }
    }
}

impl ComponentFilter {
    /// Whether the components in `parent` match. `above` is the name of the component that recurs around `parent`.
    fn matches(&self, object: &Object<'_>, parent: &Part<'_>, above: Option<&str>) -> bool {
        let mut named = parent.components.iter().filter(|component| component.is(&self.name));
        match &self.condition {
            ComponentCondition::NotDefined => named.next().is_none(),
            ComponentCondition::Defined { time_range, properties, components } => {
                let meets = |component: &Part<'_>| {
                    properties.iter().all(|filter| filter.matches(object, component))
                        && components.iter().all(|filter| filter.matches(object, component, Some(&self.name)))
                };
                let Some(range) = time_range else { return named.any(meets) };
                match above {
                    // Instances are asked for once; the components that meet the rest are known before.
                    None => {
                        let met: Vec<*const Part<'_>> =
                            named.filter(|component| meets(component)).map(std::ptr::from_ref).collect();
                        !met.is_empty() && self.overlaps(object, &met, *range)
                    }
                    Some(above) if self.name.eq_ignore_ascii_case("VALARM") => named
                        .any(|alarm| meets(alarm) && alarm_overlaps(object, above, parent, alarm, *range)),
                    Some(_) => false,
                }
            }
        }
    }

    fn overlaps(&self, object: &Object<'_>, met: &[*const Part<'_>], range: TimeRange) -> bool {
        object
            .visit(&self.name, range, &mut |instance| {
                let here = met.iter().any(|component| std::ptr::addr_eq(*component, instance.component));
                if here && overlaps(object, &self.name, &instance, range) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .is_break()
    }
}

impl PropertyFilter {
    fn matches(&self, object: &Object<'_>, component: &Part<'_>) -> bool {
        let mut named = component.all(&self.name);
        match &self.condition {
            PropertyCondition::NotDefined => named.next().is_none(),
            PropertyCondition::Defined { time_range, text, parameters } => named.any(|property| {
                time_range.is_none_or(|range| property_overlaps(object, property, range))
                    && text.as_ref().is_none_or(|text| text.matches(&property.text()))
                    && parameters.iter().all(|filter| filter.matches(property))
            }),
        }
    }
}

/// A date lasts a day; a time is a point; a period has its length (RFC 4791 clause 9.9).
fn property_overlaps(object: &Object<'_>, property: &Property<'_>, range: TimeRange) -> bool {
    let (start, end) = (range.first(), range.after());
    match object.moment(property) {
        Some(moment) if moment.form == Form::Date => start < moment.instant + DAY && end > moment.instant,
        Some(moment) => start <= moment.instant && end > moment.instant,
        None => object.periods(property).into_iter().any(|(from, to)| start < to && end > from),
    }
}
