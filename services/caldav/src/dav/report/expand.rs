//! `expand-property` (RFC 3253, section 3.8): properties that are hrefs, followed.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::dav::error::{Failure, Refusal};
use crate::dav::limits::{MAX_EXPANSION, MAX_PROPERTIES};
use crate::dav::multistatus::{Multistatus, close_propstat};
use crate::dav::path::Path;
use crate::dav::properties::{Live, Resource, Viewer};
use crate::dav::xml::{DAV, Element, Name, Writer};
use crate::dav::{Envelope, tree};
use crate::repository::{Home, Snapshot, Tables};

/// The report, read.
#[derive(Debug)]
pub(crate) struct ExpandProperty {
    properties: Vec<Expansion>,
}

#[derive(Debug)]
struct Expansion {
    name: Name,
    live: Option<Live>,
    inside: Vec<Self>,
}

impl ExpandProperty {
    pub(super) fn read(root: &Element) -> Result<Self, Failure> {
        let mut count = 0;
        Ok(Self { properties: read_properties(root, 0, &mut count)? })
    }

    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let snapshot = Snapshot::open(transaction, &request.session.user)?;
        let mut answer = Multistatus::new(request.viewer(), false, 0);
        let mut write = |resource: Resource<'_>| {
            response(&resource, &self.properties, request.viewer(), &mut answer.writer);
        };
        match &request.path {
            Path::Root => write(Resource::Root),
            Path::Principals => write(Resource::Principals),
            Path::Principal(_) => write(Resource::Principal),
            Path::Homes(home) => write(Resource::Homes(*home)),
            Path::Home(home, _) => write(Resource::Home(*home)),
            Path::Collection(path) => {
                let facts = tree::facts(&snapshot, &tree::collection(&snapshot, path)?, path)?;
                write(Resource::Collection(&facts));
            }
            Path::Object(path, name) => {
                let collection = tree::collection(&snapshot, path)?;
                let facts = tree::facts(&snapshot, &collection, path)?;
                let entry = collection.entry(name)?.ok_or_else(tree::not_found)?;
                write(Resource::Object(&facts, &entry));
            }
        }
        Ok(answer.finish())
    }
}

fn read_properties(parent: &Element, depth: usize, count: &mut usize) -> Result<Vec<Expansion>, Failure> {
    let mut properties = Vec::new();
    for child in parent.children().filter(|child| child.name.is(DAV, "property")) {
        *count += 1;
        if depth >= MAX_EXPANSION || *count > MAX_PROPERTIES {
            return Err(
                Failure::status(StatusCode::BAD_REQUEST).because("the expansion is too deep or too wide")
            );
        }
        let Some(local) = child.attribute("name") else {
            return Err(Failure::status(StatusCode::BAD_REQUEST).because("a property has a name"));
        };
        let name = Name::new(child.attribute("namespace").unwrap_or(DAV), local);
        let live = Live::of_name(&name);
        properties.push(Expansion { name, live, inside: read_properties(child, depth + 1, count)? });
    }
    Ok(properties)
}

/// Writes the response for a resource, with the responses of what its hrefs lead to inside.
fn response(resource: &Resource<'_>, properties: &[Expansion], viewer: Viewer<'_>, writer: &mut Writer) {
    writer.open("D:response");
    writer.href(&resource.href(viewer.session));
    let start = writer.len();
    writer.raw("<D:propstat><D:prop>");
    let mut missing = Vec::new();
    for property in properties {
        let found = property.live.is_some_and(|live| {
            let begin = writer.len();
            let has = resource.write(live, viewer, writer);
            if let (true, false, Some(target)) = (has, property.inside.is_empty(), target(live)) {
                writer.truncate(begin);
                writer.open(live.tag());
                response(&target, &property.inside, viewer, writer);
                writer.close(live.tag());
            }
            has
        });
        if !found {
            missing.push(&property.name);
        }
    }
    if missing.len() < properties.len() || properties.is_empty() {
        close_propstat(StatusCode::OK, writer);
    } else {
        writer.truncate(start);
    }
    if !missing.is_empty() {
        writer.raw("<D:propstat><D:prop>");
        missing.into_iter().for_each(|name| writer.empty(name));
        close_propstat(StatusCode::NOT_FOUND, writer);
    }
    writer.close("D:response");
}

/// What a property's href leads to.
const fn target(live: Live) -> Option<Resource<'static>> {
    match live {
        Live::CurrentUserPrincipal | Live::PrincipalUrl | Live::Owner => Some(Resource::Principal),
        Live::PrincipalCollectionSet => Some(Resource::Principals),
        Live::CalendarHomeSet => Some(Resource::Home(Home::Calendars)),
        Live::AddressbookHomeSet => Some(Resource::Home(Home::Contacts)),
        _ => None,
    }
}
