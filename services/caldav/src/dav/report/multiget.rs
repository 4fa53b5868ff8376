//! `calendar-multiget` (RFC 4791, section 7.9) and `addressbook-multiget` (RFC 6352, section 8.7).

use bytes::Bytes;
use http::{Response, StatusCode};

use super::data::{self, DataRequest, Rendering};
use crate::dav::error::{Failure, Refusal};
use crate::dav::multistatus::{Multistatus, Selection};
use crate::dav::path::{CollectionPath, Path};
use crate::dav::properties::{CollectionFacts, Resource};
use crate::dav::xml::{DAV, Element};
use crate::dav::{Envelope, tree};
use crate::repository::{Collection, Home, Snapshot, Tables};

/// The report, read.
#[derive(Debug)]
pub(crate) struct Multiget {
    home: Home,
    hrefs: Vec<String>,
    selection: Selection<DataRequest>,
}

impl Multiget {
    pub(super) fn read(request: &Envelope, root: &Element, home: Home) -> Result<Self, Failure> {
        super::check_home(request, home)?;
        let selection = Selection::of_request(root, |element| data::read(element, home))?;
        let hrefs: Vec<_> =
            root.children().filter(|child| child.name.is(DAV, "href")).map(Element::text).collect();
        if hrefs.len() > request.limits.results {
            return Err(Failure::forbidden("D:number-of-matches-within-limits"));
        }
        Ok(Self { home, hrefs, selection })
    }

    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let snapshot = Snapshot::open(transaction, &request.session.user)?;
        let mut answer =
            Multistatus::new(request.viewer(), request.prefers_minimal(), self.hrefs.len() * 1024);
        let rendering = Rendering::of(&self.selection);
        let mut opened = Opened { snapshot: &snapshot, last: None };
        for href in &self.hrefs {
            let path = Path::parse_href(href);
            let found = match &path {
                Ok(Path::Object(path, name))
                    if path.home == self.home && path.user == *request.session.user =>
                {
                    match opened.get(path)? {
                        Some((collection, facts)) => {
                            collection.entry(name)?.map(|entry| (collection, facts, entry))
                        }
                        None => None,
                    }
                }
                _ => None,
            };
            match found {
                Some((collection, facts, entry)) => {
                    let resource = Resource::Object(facts, &entry);
                    if rendering.reads() {
                        collection.with_bytes(&entry, |bytes| {
                            let data = rendering.render(bytes, facts)?;
                            answer.resource(&resource, &self.selection, Some(&data));
                            Ok::<_, Refusal>(())
                        })??;
                    } else {
                        answer.resource(&resource, &self.selection, None);
                    }
                }
                None => answer.status(href.trim(), StatusCode::NOT_FOUND),
            }
            super::check_size(&answer, request)?;
        }
        Ok(answer.finish())
    }
}

/// The collection that the last href was in: nearly always that of the next one, too.
struct Opened<'s, 't, T: Tables> {
    snapshot: &'s Snapshot<'t, T>,
    last: Option<(Collection<'s, 't, T>, CollectionFacts)>,
}

impl<'s, 't, T: Tables> Opened<'s, 't, T> {
    fn get(
        &mut self,
        path: &CollectionPath,
    ) -> Result<Option<(&Collection<'s, 't, T>, &CollectionFacts)>, Refusal> {
        if self.last.as_ref().is_none_or(|(_, facts)| facts.path != *path) {
            let Some(collection) = self.snapshot.collection(path.home, &path.name)? else { return Ok(None) };
            let facts = tree::facts(self.snapshot, &collection, path)?;
            self.last = Some((collection, facts));
        }
        Ok(self.last.as_ref().map(|(collection, facts)| (collection, facts)))
    }
}
