//! PROPPATCH (RFC 4918, section 9.2), and setting properties at creation, which shares its rules.

use bytes::Bytes;
use http::{Response, StatusCode};
use redb::WriteTransaction;

use super::error::{Failure, Refusal};
use super::limits::{MAX_PROPERTIES, MAX_PROPERTY_TEXT};
use super::multistatus::{Multistatus, close_propstat};
use super::path::Path;
use super::precondition::{self, State};
use super::properties::Live;
use super::xml::{self, CALDAV, DAV, Element, Name, Writer};
use super::{Envelope, tree};
use crate::calendar::Zone;
use crate::index::Component;
use crate::repository::{Change, CollectionProperties, DeadProperty, Home};

/// A PROPPATCH, read.
#[derive(Debug)]
pub(super) struct Proppatch {
    instructions: Vec<Instruction>,
    xml_size: usize,
}

/// One property to set or remove.
#[derive(Debug)]
pub(super) struct Instruction {
    name: Name,
    /// The element to set, with the `xml:lang` in scope; none to remove.
    value: Option<(Element, String)>,
}

/// Why one property was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotSet {
    status: StatusCode,
    condition: Option<&'static str>,
}

/// How each instruction came out, in their order.
pub(super) type Outcomes = Vec<Result<(), NotSet>>;

impl Proppatch {
    /// Reads the body.
    pub(super) fn read(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        if matches!(request.path, Path::Root | Path::Principals | Path::Homes(_)) {
            return Err(Failure::status(StatusCode::FORBIDDEN).because("this resource is the server's"));
        }
        let root = xml::parse(body)?;
        if !root.name.is(DAV, "propertyupdate") {
            return Err(Failure::status(StatusCode::BAD_REQUEST).because("the body is no DAV:propertyupdate"));
        }
        let instructions = instructions(&root)?;
        if instructions.is_empty() {
            return Err(
                Failure::status(StatusCode::BAD_REQUEST).because("there is no property to set or remove")
            );
        }
        Ok(Self { instructions, xml_size: body.len() })
    }

    /// Changes all properties or none.
    pub(super) fn run(
        &self,
        request: &Envelope,
        transaction: &WriteTransaction,
    ) -> Result<Response<Bytes>, Refusal> {
        let mut change = Change::begin(transaction, &request.session.user)?;
        let href = request.path.encode();
        let outcomes = match &request.path {
            Path::Collection(path) => {
                let mut properties = tree::collection(change.snapshot(), path)?.properties()?;
                precondition::check(
                    &request.headers,
                    &request.path,
                    State { exists: true, etag: None },
                    false,
                )?;
                let outcomes = apply(&self.instructions, path.home, false, &mut properties);
                if outcomes.iter().all(Result::is_ok) {
                    change.set_properties(path.home, &path.name, &properties)?;
                    let message = format!("Change properties of {}/{}", path.home.folder(), path.name);
                    request.session.author(|author| change.commit(author, &message))?;
                }
                outcomes
            }
            Path::Object(path, name) => {
                if tree::collection(change.snapshot(), path)?.entry(name)?.is_none() {
                    return Err(tree::not_found());
                }
                refuse_all(&self.instructions)
            }
            _ => refuse_all(&self.instructions),
        };
        if request.prefers_minimal() && outcomes.iter().all(Result::is_ok) {
            let mut response = Response::new(Bytes::new());
            response
                .headers_mut()
                .insert("preference-applied", http::HeaderValue::from_static("return=minimal"));
            return Ok(response);
        }
        let mut answer = Multistatus::new(request.viewer(), false, self.xml_size + 512);
        answer.writer.open("D:response");
        answer.writer.href(&href);
        write_outcomes(&self.instructions, &outcomes, &mut answer.writer);
        answer.writer.close("D:response");
        Ok(answer.finish())
    }
}

/// Reads the `set` and `remove` elements of a request, in their order.
pub(super) fn instructions(root: &Element) -> Result<Vec<Instruction>, Failure> {
    let mut instructions = Vec::new();
    for action in root.children() {
        let set = action.name.is(DAV, "set");
        if !set && !action.name.is(DAV, "remove") {
            continue;
        }
        for prop in action.children().filter(|child| child.name.is(DAV, "prop")) {
            let language = [prop, action, root].into_iter().find_map(Element::language).unwrap_or_default();
            for property in prop.children() {
                if instructions.len() >= MAX_PROPERTIES {
                    return Err(Failure::status(StatusCode::BAD_REQUEST).because("too many properties"));
                }
                let value = set.then(|| (property.clone(), language.to_owned()));
                instructions.push(Instruction { name: property.name.clone(), value });
            }
        }
    }
    Ok(instructions)
}

/// Applies instructions to the properties of a collection of `home`; `creating` says that the collection is being made.
/// Whoever finds an error among the outcomes must drop `properties`.
pub(super) fn apply(
    instructions: &[Instruction],
    home: Home,
    creating: bool,
    properties: &mut CollectionProperties,
) -> Outcomes {
    instructions.iter().map(|instruction| instruction.apply(home, creating, properties)).collect()
}

/// Writes the propstats for the outcomes: where one failed, the others are failed dependencies.
pub(super) fn write_outcomes(instructions: &[Instruction], outcomes: &Outcomes, writer: &mut Writer) {
    let failed = outcomes.iter().any(Result::is_err);
    let other = if failed { StatusCode::FAILED_DEPENDENCY } else { StatusCode::OK };
    let mut written: Vec<Option<&NotSet>> = Vec::new();
    for outcome in outcomes {
        let kind = outcome.as_ref().err();
        if written.contains(&kind) {
            continue;
        }
        written.push(kind);
        writer.raw("<D:propstat><D:prop>");
        for (instruction, outcome) in instructions.iter().zip(outcomes) {
            if outcome.as_ref().err() == kind {
                writer.empty(&instruction.name);
            }
        }
        match kind {
            None => close_propstat(other, writer),
            Some(not_set) => {
                writer.close("D:prop");
                super::multistatus::write_status(not_set.status, writer);
                if let Some(condition) = not_set.condition {
                    writer.open("D:error");
                    writer.empty_tag(condition);
                    writer.close("D:error");
                }
                writer.close("D:propstat");
            }
        }
    }
}

fn refuse_all(instructions: &[Instruction]) -> Outcomes {
    instructions.iter().map(|_| Err(NotSet { status: StatusCode::FORBIDDEN, condition: None })).collect()
}

const fn not_set(status: StatusCode, condition: &'static str) -> Result<(), NotSet> {
    Err(NotSet { status, condition: Some(condition) })
}

impl Instruction {
    /// What the request asked to create, for `resourcetype`.
    pub(super) fn resource_type(&self) -> Option<&Element> {
        self.value.as_ref().map(|(element, _)| element).filter(|_| self.name.is(DAV, "resourcetype"))
    }

    fn apply(&self, home: Home, creating: bool, properties: &mut CollectionProperties) -> Result<(), NotSet> {
        let text = self.text()?;
        match (Live::of_name(&self.name), home) {
            (Some(Live::DisplayName), _) => properties.displayname = text,
            (Some(Live::CalendarDescription), Home::Calendars)
            | (Some(Live::AddressbookDescription), Home::Contacts) => properties.description = text,
            (Some(Live::CalendarColor), _) => properties.color = text.map(|text| text.trim().to_owned()),
            (Some(Live::CalendarOrder), _) => properties.order = text.map(|text| text.trim().to_owned()),
            (Some(Live::CalendarTimezone), Home::Calendars) => {
                if text.as_deref().is_some_and(|text| Zone::of_object(text).is_none()) {
                    return not_set(StatusCode::FORBIDDEN, "C:valid-calendar-data");
                }
                properties.timezone = text;
            }
            (Some(Live::CalendarTimezoneId), Home::Calendars) => {
                properties.timezone_id = text.map(|text| text.trim().to_owned());
            }
            (Some(Live::ScheduleCalendarTransp), Home::Calendars) => {
                let element = self.value.as_ref().map(|(element, _)| element);
                properties.transparent = element.is_some_and(|e| e.child(CALDAV, "transparent").is_some());
            }
            (Some(Live::SupportedCalendarComponentSet), Home::Calendars) if creating => {
                properties.components = self.components()?;
            }
            // Judged by who makes the collection.
            (Some(Live::ResourceType), _) if creating => {}
            (Some(_), _) => return not_set(StatusCode::FORBIDDEN, "D:cannot-modify-protected-property"),
            (None, _) => self.apply_dead(properties),
        }
        Ok(())
    }

    fn apply_dead(&self, properties: &mut CollectionProperties) {
        properties.dead.retain(|dead| !self.name.is(&dead.namespace, &dead.name));
        if let Some((element, language)) = &self.value {
            properties.dead.push(DeadProperty {
                namespace: self.name.namespace.to_string(),
                name: self.name.local.to_string(),
                xml: element.to_xml(language),
            });
        }
    }

    fn text(&self) -> Result<Option<String>, NotSet> {
        let text = self.value.as_ref().map(|(element, _)| element.text());
        if text.as_ref().is_some_and(|text| text.len() > MAX_PROPERTY_TEXT) {
            return Err(NotSet { status: StatusCode::INSUFFICIENT_STORAGE, condition: None });
        }
        Ok(text)
    }

    /// RFC 4791, section 5.2.3. Components that this service does not store are left out; a calendar for nothing else
    /// is not made.
    fn components(&self) -> Result<Vec<String>, NotSet> {
        let Some((element, _)) = &self.value else { return Ok(Vec::new()) };
        let mut components = Vec::new();
        for asked in element.children().filter(|child| child.name.is(CALDAV, "comp")) {
            let known = asked.attribute("name").and_then(Component::of_name).map(Component::name);
            if let Some(known) = known
                && !components.iter().any(|component| component == known)
            {
                components.push(known.to_owned());
            }
        }
        if components.is_empty() {
            return Err(NotSet {
                status: StatusCode::FORBIDDEN,
                condition: Some("C:supported-calendar-component"),
            });
        }
        Ok(components)
    }
}
