//! Multi-status answers (RFC 4918, section 13), and which properties a request asks for (section 9.1).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::error::{Failure, XML_TYPE};
use super::limits::MAX_PROPERTIES;
use super::properties::{Live, Resource, Viewer};
use super::xml::{DAV, Element, Name, Writer};

/// Which properties a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Selection<D> {
    /// `allprop`, and what it includes besides.
    All(Vec<Property<D>>),
    /// `propname`.
    Names,
    /// These.
    These(Vec<Property<D>>),
}

/// One property asked for. `D` is the request for a resource's own data, where a report may have one.
#[derive(Debug, Clone)]
pub(crate) enum Property<D> {
    /// One that this service computes.
    Live(Live),
    /// The resource's data.
    Data(D),
    /// Any other.
    Other(Name),
}

/// Where data cannot be asked for: outside of reports.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NoData {}

/// Writes what a request for a resource's data asks for.
pub(crate) trait WriteData {
    /// Writes the element with the data of `resource`; false when it has none.
    fn write(&self, resource: &Resource<'_>, data: Option<&str>, writer: &mut Writer) -> bool;

    /// The element's tag with the writer's prefix.
    fn tag(&self) -> &'static str;
}

impl WriteData for NoData {
    fn write(&self, _: &Resource<'_>, _: Option<&str>, _: &mut Writer) -> bool {
        match *self {}
    }

    fn tag(&self) -> &'static str {
        match *self {}
    }
}

impl<D> Selection<D> {
    /// Reads the `allprop`, `propname` or `prop` among the children of a request; without any it is `allprop` (RFC
    /// 4918, section 9.1). `data` recognises a request for data.
    pub(crate) fn of_request(
        request: &Element,
        mut data: impl FnMut(&Element) -> Result<Option<D>, Failure>,
    ) -> Result<Self, Failure> {
        let mut properties = |element: &Element| -> Result<Vec<Property<D>>, Failure> {
            let mut properties = Vec::new();
            for child in element.children() {
                if properties.len() >= MAX_PROPERTIES {
                    return Err(Failure::status(StatusCode::BAD_REQUEST).because("too many properties"));
                }
                properties.push(match (Live::of_name(&child.name), data(child)?) {
                    (_, Some(data)) => Property::Data(data),
                    (Some(live), None) => Property::Live(live),
                    (None, None) => Property::Other(child.name.clone()),
                });
            }
            Ok(properties)
        };
        let mut selection = None;
        let mut included = Vec::new();
        for child in request.children() {
            if &*child.name.namespace != DAV {
                continue;
            }
            match &*child.name.local {
                "allprop" => drop(selection.replace(Self::All(Vec::new()))),
                "propname" => drop(selection.replace(Self::Names)),
                "prop" => drop(selection.replace(Self::These(properties(child)?))),
                "include" => included = properties(child)?,
                _ => {}
            }
        }
        Ok(match selection {
            None | Some(Self::All(_)) => Self::All(included),
            Some(other) => other,
        })
    }
}

/// A multi-status being written.
pub(crate) struct Multistatus<'a> {
    /// The document, for those who have more to say at its end.
    pub(crate) writer: Writer,
    viewer: Viewer<'a>,
    /// Whether properties that a resource does not have are left out (RFC 8144, section 2.1).
    minimal: bool,
    missing: Vec<usize>,
}

impl<'a> Multistatus<'a> {
    /// Begins an answer; `capacity` in bytes saves growing.
    pub(crate) fn new(viewer: Viewer<'a>, minimal: bool, capacity: usize) -> Self {
        Self { writer: Writer::document("multistatus", capacity), viewer, minimal, missing: Vec::new() }
    }

    /// Adds the response for a resource. `data` is what the resource holds, where it was read.
    pub(crate) fn resource<D: WriteData>(
        &mut self,
        resource: &Resource<'_>,
        selection: &Selection<D>,
        data: Option<&str>,
    ) {
        self.writer.open("D:response");
        self.writer.href(&resource.href(self.viewer.session));
        match selection {
            Selection::These(properties) => self.these(resource, properties, data),
            Selection::All(included) => self.all(resource, included, data),
            Selection::Names => self.names(resource),
        }
        self.writer.close("D:response");
    }

    /// Adds a response that is only a status, for a member that is gone or was not found.
    pub(crate) fn status(&mut self, href: &str, status: StatusCode) {
        self.writer.open("D:response");
        self.writer.href(href);
        write_status(status, &mut self.writer);
        self.writer.close("D:response");
    }

    /// Adds a response that says why a resource was refused.
    pub(crate) fn failure(&mut self, href: &str, failure: &Failure) {
        self.writer.open("D:response");
        self.writer.href(href);
        write_status(failure.status, &mut self.writer);
        failure.write_error(&mut self.writer);
        self.writer.close("D:response");
    }

    /// Ends the answer.
    pub(crate) fn finish(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.writer.finish("multistatus")));
        *response.status_mut() = StatusCode::MULTI_STATUS;
        response.headers_mut().insert(CONTENT_TYPE, XML_TYPE);
        if self.minimal {
            response
                .headers_mut()
                .insert("preference-applied", http::HeaderValue::from_static("return=minimal"));
        }
        response
    }

    fn these<D: WriteData>(
        &mut self,
        resource: &Resource<'_>,
        properties: &[Property<D>],
        data: Option<&str>,
    ) {
        let start = self.writer.len();
        self.writer.raw("<D:propstat><D:prop>");
        self.missing.clear();
        for (index, property) in properties.iter().enumerate() {
            let found = match property {
                Property::Live(live) => resource.write(*live, self.viewer, &mut self.writer),
                Property::Data(wanted) => wanted.write(resource, data, &mut self.writer),
                Property::Other(name) => write_dead(resource, name, &mut self.writer),
            };
            if !found {
                self.missing.push(index);
            }
        }
        // A propstat has at least one property; a response at least one propstat, so an empty one stays if it is alone.
        if self.missing.len() < properties.len() || self.minimal || properties.is_empty() {
            close_propstat(StatusCode::OK, &mut self.writer);
        } else {
            self.writer.truncate(start);
        }
        if self.missing.is_empty() || self.minimal {
            return;
        }
        self.writer.raw("<D:propstat><D:prop>");
        for &index in &self.missing {
            match properties.get(index) {
                Some(Property::Live(live)) => self.writer.empty_tag(live.tag()),
                Some(Property::Data(wanted)) => self.writer.empty_tag(wanted.tag()),
                Some(Property::Other(name)) => self.writer.empty(name),
                None => {}
            }
        }
        close_propstat(StatusCode::NOT_FOUND, &mut self.writer);
    }

    fn all<D: WriteData>(&mut self, resource: &Resource<'_>, included: &[Property<D>], data: Option<&str>) {
        self.writer.raw("<D:propstat><D:prop>");
        for live in Live::ALL.iter().filter(|live| live.in_allprop()) {
            resource.write(*live, self.viewer, &mut self.writer);
        }
        if let Some(stored) = resource.stored() {
            for dead in &stored.dead {
                self.writer.raw(&dead.xml);
            }
        }
        for property in included {
            match property {
                Property::Live(live) if !live.in_allprop() => {
                    resource.write(*live, self.viewer, &mut self.writer);
                }
                Property::Data(wanted) => {
                    wanted.write(resource, data, &mut self.writer);
                }
                Property::Live(_) | Property::Other(_) => {}
            }
        }
        close_propstat(StatusCode::OK, &mut self.writer);
    }

    fn names(&mut self, resource: &Resource<'_>) {
        self.writer.raw("<D:propstat><D:prop>");
        for live in Live::ALL {
            let start = self.writer.len();
            if resource.write(*live, self.viewer, &mut self.writer) {
                self.writer.truncate(start);
                self.writer.empty_tag(live.tag());
            }
        }
        if let Some(stored) = resource.stored() {
            for dead in &stored.dead {
                self.writer.empty(&Name::new(&dead.namespace, &dead.name));
            }
        }
        close_propstat(StatusCode::OK, &mut self.writer);
    }
}

fn write_dead(resource: &Resource<'_>, name: &Name, writer: &mut Writer) -> bool {
    let dead = resource
        .stored()
        .and_then(|stored| stored.dead.iter().find(|dead| name.is(&dead.namespace, &dead.name)));
    if let Some(dead) = dead {
        writer.raw(&dead.xml);
    }
    dead.is_some()
}

/// Ends `<D:prop>` and its propstat.
pub(crate) fn close_propstat(status: StatusCode, writer: &mut Writer) {
    writer.close("D:prop");
    write_status(status, writer);
    writer.close("D:propstat");
}

/// `<D:status>` with the line of HTTP/1.1, which is what RFC 4918, section 14.28, prints whatever the version.
pub(crate) fn write_status(status: StatusCode, writer: &mut Writer) {
    writer.raw("<D:status>HTTP/1.1 ");
    writer.raw(status.as_str());
    writer.raw(" ");
    writer.raw(status.canonical_reason().unwrap_or("Unknown"));
    writer.raw("</D:status>");
}
