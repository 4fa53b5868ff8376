//! What `calendar-data` asks of an object that is given back (RFC 4791 clause 9.6): parts of it, or its instances.

use std::fmt;
use std::ops::ControlFlow;

use super::object::{Instance, Moment, Object};
use super::overlap::overlaps;
use super::time::{DateTime, Form};
use super::{MAX_INSTANCES, TimeRange, Zone};
use crate::contentline::{Component, ParseError, Property, Writer, decode};
use crate::index;

/// `calendar-data` in a request. The default gives the client's bytes back as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalendarData {
    /// Which components and properties; `None` for all.
    pub component: Option<ComponentData>,
    /// `expand`: instances in this range instead of rules. Both bounds are given.
    pub expand: Option<TimeRange>,
    /// `limit-recurrence-set`: no overrides that do not overlap this range.
    pub limit_recurrence_set: Option<TimeRange>,
    /// `limit-freebusy-set`: no FREEBUSY periods outside of this range.
    pub limit_freebusy_set: Option<TimeRange>,
}

/// `comp`: a component to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentData {
    /// Its name, in any case.
    pub name: String,
    /// Which of its properties; `None` for all (`allprop`, or an element without children).
    pub properties: Option<Vec<PropertyData>>,
    /// Which of its components; `None` for all (`allcomp`, or an element without children).
    pub components: Option<Vec<ComponentData>>,
}

/// `prop`: a property to give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyData {
    /// Its name, in any case.
    pub name: String,
    /// Whether only the name is wanted (`novalue`).
    pub no_value: bool,
}

/// Why an object cannot be given back as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataError {
    /// Peer: `expand` would give more than [`MAX_INSTANCES`].
    TooManyInstances,
    /// Device: what is stored is not a calendar object.
    Syntax(ParseError),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyInstances => write!(f, "the expansion has more than {MAX_INSTANCES} instances"),
            Self::Syntax(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DataError {}

impl From<ParseError> for DataError {
    fn from(error: ParseError) -> Self {
        Self::Syntax(error)
    }
}

impl CalendarData {
    /// Whether objects are given back as they are: then there is nothing to do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// The object as asked for. `floating` is as in [`Filter::matches`](super::Filter::matches).
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn apply(&self, bytes: &[u8], floating: &Zone) -> Result<Vec<u8>, DataError> {
        if self.is_whole() {
            return Ok(bytes.to_vec());
        }
        let text = decode(bytes)?;
        let object = Object::parse(&text, floating)?;
        let calendar = object.calendar();
        let selection = self.component.as_ref().filter(|selection| calendar.is(&selection.name));
        let mut writer = Writer::default();
        writer.line(&["BEGIN:", calendar.name]);
        write_properties(&mut writer, calendar, selection);
        for component in &calendar.components {
            let Some(inner) = select(selection, component) else { continue };
            let known = index::Component::of_name(component.name).is_some();
            if self.expand.is_some() && (component.is("VTIMEZONE") || known && !component.is("VFREEBUSY")) {
                continue;
            }
            if let Some(range) = self.limit_recurrence_set
                && component.property("RECURRENCE-ID").is_some()
                && !override_matters(&object, component, range)
            {
                continue;
            }
            self.write(&object, &mut writer, component, inner);
        }
        if let Some(range) = self.expand {
            for kind in index::Component::CALENDAR {
                self.write_instances(&object, &mut writer, kind, range, selection)?;
            }
        }
        writer.line(&["END:", calendar.name]);
        Ok(writer.finish().into_bytes())
    }

    fn write(
        &self,
        object: &Object<'_>,
        writer: &mut Writer,
        component: &Component<'_>,
        selection: Option<&ComponentData>,
    ) {
        writer.line(&["BEGIN:", component.name]);
        match self.limit_freebusy_set {
            Some(range) if component.is("VFREEBUSY") => {
                for property in &component.properties {
                    if property.is("FREEBUSY") {
                        write_periods(object, writer, property, range, selection);
                    } else {
                        write_property(writer, property, selection);
                    }
                }
            }
            _ => write_properties(writer, component, selection),
        }
        for inner in &component.components {
            if let Some(selection) = select(selection, inner) {
                self.write(object, writer, inner, selection);
            }
        }
        writer.line(&["END:", component.name]);
    }

    /// Writes the instances of a series in the range, in order, in UTC and without rules (clause 9.6.5).
    fn write_instances(
        &self,
        object: &Object<'_>,
        writer: &mut Writer,
        kind: index::Component,
        range: TimeRange,
        selection: Option<&ComponentData>,
    ) -> Result<(), DataError> {
        if kind == index::Component::FreeBusy {
            return Ok(());
        }
        let mut instances: Vec<Instance<'_, '_>> = Vec::new();
        let limit = usize::try_from(MAX_INSTANCES).unwrap_or(usize::MAX);
        let visited = object.visit(kind.name(), range, &mut |instance| {
            if overlaps(object, kind.name(), &instance, range) {
                if instances.len() == limit {
                    return ControlFlow::Break(());
                }
                instances.push(instance);
            }
            ControlFlow::Continue(())
        });
        if visited.is_break() {
            return Err(DataError::TooManyInstances);
        }
        instances.sort_by_key(|instance| instance.start.map(|start| start.instant));
        for instance in instances {
            let Some(inner) = select(selection, instance.component) else { continue };
            self.write_instance(object, writer, &instance, inner);
        }
        Ok(())
    }

    fn write_instance(
        &self,
        object: &Object<'_>,
        writer: &mut Writer,
        instance: &Instance<'_, '_>,
        selection: Option<&ComponentData>,
    ) {
        let component = instance.component;
        writer.line(&["BEGIN:", component.name]);
        for property in &component.properties {
            let moment = match property.base_name().to_ascii_uppercase().as_str() {
                "RRULE" | "RDATE" | "EXDATE" | "EXRULE" | "RECURRENCE-ID" => continue,
                "DTSTART" => instance.start,
                "DTEND" | "DUE" => instance.end,
                _ => {
                    write_property(writer, property, selection);
                    continue;
                }
            };
            write_moment(writer, property.name, moment.or_else(|| object.moment(property)), selection);
        }
        write_moment(writer, "RECURRENCE-ID", instance.id, selection);
        for inner in &component.components {
            if let Some(selection) = select(selection, inner) {
                self.write(object, writer, inner, selection);
            }
        }
        writer.line(&["END:", component.name]);
    }
}

/// Whether a component inside is wanted, and what of it. The outer `None` is no, the inner one is all of it.
fn select<'s>(
    selection: Option<&'s ComponentData>,
    component: &Component<'_>,
) -> Option<Option<&'s ComponentData>> {
    match selection.and_then(|selection| selection.components.as_ref()) {
        None => Some(None),
        Some(wanted) => wanted.iter().find(|wanted| component.is(&wanted.name)).map(Some),
    }
}

fn write_properties(writer: &mut Writer, component: &Component<'_>, selection: Option<&ComponentData>) {
    for property in &component.properties {
        write_property(writer, property, selection);
    }
}

fn write_property(writer: &mut Writer, property: &Property<'_>, selection: Option<&ComponentData>) {
    match selection.and_then(|selection| selection.properties.as_ref()) {
        None => writer.property(property),
        Some(wanted) => match wanted.iter().find(|wanted| property.is(&wanted.name)) {
            Some(PropertyData { no_value: true, .. }) => writer.property_without_value(property),
            Some(_) => writer.property(property),
            None => {}
        },
    }
}

/// Whether an override, or the instance it replaces, overlaps the range (clause 9.6.6).
fn override_matters(object: &Object<'_>, component: &Component<'_>, range: TimeRange) -> bool {
    // One that changes what follows matters until the end.
    let Some(instance) = object.only_instance(component) else { return true };
    let replaced = instance.id.is_some_and(|id| range.first() <= id.instant && range.after() > id.instant);
    replaced || overlaps(object, component.name, &instance, range)
}

fn write_periods(
    object: &Object<'_>,
    writer: &mut Writer,
    property: &Property<'_>,
    range: TimeRange,
    selection: Option<&ComponentData>,
) {
    let kept: Vec<&str> = property
        .value
        .split(',')
        .filter(|value| {
            let periods = object.periods(&Property { value, ..*property });
            periods.iter().any(|(from, to)| range.first() < *to && range.after() > *from)
        })
        .collect();
    if !kept.is_empty() {
        write_property(writer, &Property { value: &kept.join(","), ..*property }, selection);
    }
}

fn write_moment(writer: &mut Writer, name: &str, moment: Option<Moment>, selection: Option<&ComponentData>) {
    let Some(moment) = moment else { return };
    let (parameters, time) = match moment.form {
        Form::Date => ("VALUE=DATE", DateTime { local: moment.local, form: Form::Date }),
        Form::Floating | Form::Utc => ("", DateTime { local: moment.instant, form: Form::Utc }),
    };
    write_property(writer, &Property { name, parameters, value: &time.text() }, selection);
}
