//! PROPFIND (RFC 4918, section 9.1).

use bytes::Bytes;
use http::{Response, StatusCode};

use super::error::{Failure, Refusal};
use super::multistatus::{Multistatus, NoData, Selection};
use super::options::COMPLIANCE;
use super::path::{CollectionPath, Path};
use super::properties::Resource;
use super::{Depth, Envelope, tree, xml};
use crate::repository::{Home, Snapshot, Tables};

/// A PROPFIND, read.
#[derive(Debug)]
pub(super) struct Propfind {
    selection: Selection<NoData>,
    members: bool,
}

impl Propfind {
    /// Reads depth and body.
    pub(super) fn read(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        // A resource that is no collection has the same answer at any depth. Without the header the depth is infinite.
        let members = match request.depth()? {
            Some(Depth::Zero) => false,
            Some(Depth::One) => true,
            Some(Depth::Infinity) | None if matches!(request.path, Path::Object(..)) => false,
            Some(Depth::Infinity) | None => return Err(Failure::forbidden("D:propfind-finite-depth")),
        };
        let selection = if body.iter().all(u8::is_ascii_whitespace) {
            Selection::All(Vec::new())
        } else {
            let root = xml::parse(body)?;
            if !root.name.is(xml::DAV, "propfind") {
                return Err(Failure::status(StatusCode::BAD_REQUEST).because("the body is no DAV:propfind"));
            }
            Selection::of_request(&root, |_| Ok(None))?
        };
        Ok(Self { selection, members })
    }

    /// Answers.
    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let session = &request.session;
        let snapshot = Snapshot::open(transaction, &session.user)?;
        let mut answer = Multistatus::new(request.viewer(), request.prefers_minimal(), 0);
        let mut add = |resource: Resource<'_>| answer.resource(&resource, &self.selection, None);
        match &request.path {
            Path::Root => {
                add(Resource::Root);
                if self.members {
                    add(Resource::Principals);
                    add(Resource::Homes(Home::Calendars));
                    add(Resource::Homes(Home::Contacts));
                }
            }
            Path::Principals => {
                add(Resource::Principals);
                if self.members {
                    add(Resource::Principal);
                }
            }
            Path::Principal(_) => add(Resource::Principal),
            Path::Homes(home) => {
                add(Resource::Homes(*home));
                if self.members {
                    add(Resource::Home(*home));
                }
            }
            Path::Home(home, user) => {
                add(Resource::Home(*home));
                if self.members {
                    for path in tree::collections(&snapshot, *home, user)? {
                        let facts = tree::facts(&snapshot, &tree::collection(&snapshot, &path)?, &path)?;
                        add(Resource::Collection(&facts));
                    }
                }
            }
            Path::Collection(path) => self.collection(&snapshot, path, &mut answer, request)?,
            Path::Object(path, name) => {
                let collection = tree::collection(&snapshot, path)?;
                let entry = collection.entry(name)?.ok_or_else(tree::not_found)?;
                let facts = tree::facts(&snapshot, &collection, path)?;
                add(Resource::Object(&facts, &entry));
            }
        }
        let mut response = answer.finish();
        response.headers_mut().insert("dav", COMPLIANCE);
        Ok(response)
    }

    fn collection<T: Tables>(
        &self,
        snapshot: &Snapshot<'_, T>,
        path: &CollectionPath,
        answer: &mut Multistatus<'_>,
        request: &Envelope,
    ) -> Result<(), Refusal> {
        let collection = tree::collection(snapshot, path)?;
        let facts = tree::facts(snapshot, &collection, path)?;
        answer.resource(&Resource::Collection(&facts), &self.selection, None);
        if self.members {
            for entry in collection.resources()? {
                answer.resource(&Resource::Object(&facts, &entry?), &self.selection, None);
                if answer.writer.len() > request.limits.response_bytes {
                    return Err(Failure::status(StatusCode::INSUFFICIENT_STORAGE)
                        .because(
                            "the collection is too large to list; ask for fewer properties, or synchronise",
                        )
                        .into());
                }
            }
        }
        Ok(())
    }
}
