//! `calendar-query` (RFC 4791, section 7.8) and `addressbook-query` (RFC 6352, section 8.6).

use bytes::Bytes;
use http::{Response, StatusCode};

use super::data::{self, DataRequest, Rendering};
use super::filter;
use crate::calendar::{self, Preliminary, Zone};
use crate::contact;
use crate::dav::error::{Failure, Refusal};
use crate::dav::multistatus::{Multistatus, Selection};
use crate::dav::path::{CollectionPath, Path};
use crate::dav::properties::{CollectionFacts, Resource};
use crate::dav::xml::{CALDAV, CARDDAV, Element};
use crate::dav::{Envelope, tree};
use crate::index::Summary;
use crate::repository::{Entry, Home, Snapshot, Tables};

/// What one response takes besides its data: for a capacity that seldom has to grow.
const RESPONSE_BYTES: usize = 300;

/// A query, read.
#[derive(Debug)]
pub(crate) struct Query {
    condition: Condition,
    selection: Selection<DataRequest>,
    /// How many results the client wants (RFC 6352, section 8.6.1).
    limit: Option<usize>,
}

#[derive(Debug)]
enum Condition {
    /// With the zone in which the query wants floating times read.
    Calendar(calendar::Filter, Option<Zone>),
    Contact(contact::Filter),
}

impl Query {
    /// Reads `calendar-query`.
    pub(super) fn read_calendar(request: &Envelope, root: &Element) -> Result<Self, Failure> {
        super::check_home(request, Home::Calendars)?;
        let selection = Selection::of_request(root, |element| data::read(element, Home::Calendars))?;
        let zone = match (root.child(CALDAV, "timezone"), root.child(CALDAV, "timezone-id")) {
            (Some(timezone), _) => {
                let zone = Zone::of_object(&timezone.text());
                Some(zone.ok_or(Failure::forbidden("C:valid-calendar-data"))?)
            }
            (None, Some(name)) => {
                let zone = Zone::of_name(name.text().trim());
                Some(zone.ok_or(Failure::forbidden("C:valid-timezone"))?)
            }
            (None, None) => None,
        };
        let condition = Condition::Calendar(filter::calendar(root)?, zone);
        Ok(Self { condition, selection, limit: None })
    }

    /// Reads `addressbook-query`.
    pub(super) fn read_contact(request: &Envelope, root: &Element) -> Result<Self, Failure> {
        super::check_home(request, Home::Contacts)?;
        let selection = Selection::of_request(root, |element| data::read(element, Home::Contacts))?;
        let limit = root.child(CARDDAV, "limit").and_then(|limit| limit.child(CARDDAV, "nresults"));
        let limit = limit.and_then(|limit| limit.text().trim().parse().ok());
        Ok(Self { condition: Condition::Contact(filter::contact(root)?), selection, limit })
    }

    /// Answers. The depth is not looked at: a collection is asked about what is in it, a home about all of its
    /// collections.
    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let snapshot = Snapshot::open(transaction, &request.session.user)?;
        let mut answer = Multistatus::new(request.viewer(), request.prefers_minimal(), 0);
        let mut found = 0;
        match &request.path {
            Path::Home(home, user) => {
                for path in tree::collections(&snapshot, *home, user)? {
                    self.collection(&snapshot, &path, None, request, &mut answer, &mut found)?;
                }
            }
            Path::Collection(path) => {
                self.collection(&snapshot, path, None, request, &mut answer, &mut found)?;
            }
            Path::Object(path, name) => {
                self.collection(&snapshot, path, Some(name), request, &mut answer, &mut found)?;
            }
            _ => return Err(super::unsupported().into()),
        }
        if self.limit.is_some_and(|limit| found > limit) {
            let failure = Failure::forbidden("D:number-of-matches-within-limits")
                .with_status(StatusCode::INSUFFICIENT_STORAGE);
            answer.failure(&request.path.encode(), &failure);
        }
        Ok(answer.finish())
    }

    /// Adds the matches of a collection, or of one resource of it.
    fn collection<T: Tables>(
        &self,
        snapshot: &Snapshot<'_, T>,
        path: &CollectionPath,
        only: Option<&str>,
        request: &Envelope,
        answer: &mut Multistatus<'_>,
        found: &mut usize,
    ) -> Result<(), Refusal> {
        let collection = tree::collection(snapshot, path)?;
        let facts = tree::facts(snapshot, &collection, path)?;
        let zone = self.zone(&facts);
        let rendering = Rendering::of(&self.selection);
        let mut look = |entry: &Entry| -> Result<(), Refusal> {
            let verdict = self.preliminary(&entry.summary);
            let resource = Resource::Object(&facts, entry);
            if verdict == Preliminary::No {
                return Ok(());
            }
            if verdict == Preliminary::Yes && !rendering.reads() {
                if self.counts(found, request)? {
                    answer.resource(&resource, &self.selection, None);
                }
                return Ok(());
            }
            collection.with_bytes(entry, |bytes| {
                if (verdict == Preliminary::Look && !self.matches(bytes, &zone))
                    || !self.counts(found, request)?
                {
                    return Ok(());
                }
                let data = rendering.render(bytes, &facts)?;
                answer.writer.reserve(data.len() + data.len() / 8 + RESPONSE_BYTES);
                answer.resource(&resource, &self.selection, Some(&data));
                super::check_size(answer, request)
            })?
        };
        match only {
            Some(name) => look(&collection.entry(name)?.ok_or_else(tree::not_found)?),
            None => collection.resources()?.try_for_each(|entry| look(&entry?)),
        }
    }

    /// Counts a match, and says whether it is one to give.
    fn counts(&self, found: &mut usize, request: &Envelope) -> Result<bool, Refusal> {
        *found += 1;
        match self.limit {
            Some(limit) if limit <= request.limits.results => Ok(*found <= limit),
            _ if *found > request.limits.results => {
                Err(Failure::forbidden("D:number-of-matches-within-limits").into())
            }
            _ => Ok(true),
        }
    }

    fn zone(&self, facts: &CollectionFacts) -> Zone {
        match &self.condition {
            Condition::Calendar(_, Some(zone)) => zone.clone(),
            Condition::Calendar(_, None) => Zone::of_collection(&facts.properties),
            Condition::Contact(_) => Zone::Utc,
        }
    }

    fn preliminary(&self, summary: &Summary) -> Preliminary {
        match &self.condition {
            Condition::Calendar(filter, _) => filter.preliminary(summary),
            Condition::Contact(_) => Preliminary::Look,
        }
    }

    fn matches(&self, bytes: &[u8], zone: &Zone) -> bool {
        match &self.condition {
            Condition::Calendar(filter, _) => filter.matches(bytes, zone),
            Condition::Contact(filter) => filter.matches(bytes),
        }
    }
}
