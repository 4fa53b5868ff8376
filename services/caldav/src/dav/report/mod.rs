//! REPORT: which there are, and what they share.

mod data;
mod expand;
mod filter;
mod freebusy;
mod multiget;
mod principals;
mod query;
mod sync;

use bytes::Bytes;
use http::Response;

use super::Envelope;
use super::error::{Failure, Refusal};
use super::multistatus::Multistatus;
use super::path::Path;
use super::xml::{self, CALDAV, CARDDAV, DAV};
use crate::repository::{Home, Tables};

/// A report, read.
#[derive(Debug)]
pub(super) enum Report {
    Query(query::Query),
    FreeBusy(freebusy::FreeBusyQuery),
    Multiget(multiget::Multiget),
    SyncCollection(sync::SyncCollection),
    ExpandProperty(expand::ExpandProperty),
    PrincipalSearch(principals::PrincipalSearch),
    PrincipalSearchPropertySet,
}

impl Report {
    /// Reads the body.
    pub(super) fn read(request: &Envelope, body: &Bytes) -> Result<Self, Failure> {
        let root = xml::parse(body)?;
        match (&*root.name.namespace, &*root.name.local) {
            (CALDAV, "calendar-query") => query::Query::read_calendar(request, &root).map(Self::Query),
            (CARDDAV, "addressbook-query") => query::Query::read_contact(request, &root).map(Self::Query),
            (CALDAV, "free-busy-query") => freebusy::FreeBusyQuery::read(request, &root).map(Self::FreeBusy),
            (CALDAV, "calendar-multiget") => {
                multiget::Multiget::read(request, &root, Home::Calendars).map(Self::Multiget)
            }
            (CARDDAV, "addressbook-multiget") => {
                multiget::Multiget::read(request, &root, Home::Contacts).map(Self::Multiget)
            }
            (DAV, "sync-collection") => sync::SyncCollection::read(request, &root).map(Self::SyncCollection),
            (DAV, "expand-property") => expand::ExpandProperty::read(&root).map(Self::ExpandProperty),
            (DAV, "principal-property-search") => {
                principals::PrincipalSearch::read(request, &root).map(Self::PrincipalSearch)
            }
            (DAV, "principal-match") => {
                principals::PrincipalSearch::read_match(&root).map(Self::PrincipalSearch)
            }
            (DAV, "principal-search-property-set") => Ok(Self::PrincipalSearchPropertySet),
            _ => Err(unsupported()),
        }
    }

    /// Answers.
    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        match self {
            Self::Query(query) => query.run(request, transaction),
            Self::FreeBusy(query) => query.run(request, transaction),
            Self::Multiget(multiget) => multiget.run(request, transaction),
            Self::SyncCollection(sync) => sync.run(request, transaction),
            Self::ExpandProperty(expand) => expand.run(request, transaction),
            Self::PrincipalSearch(search) => Ok(search.run(request)),
            Self::PrincipalSearchPropertySet => Ok(principals::search_properties()),
        }
    }
}

/// RFC 3253, section 3.6: the resource does not have this report.
fn unsupported() -> Failure {
    Failure::forbidden("D:supported-report")
}

/// Reports about one kind of collection are answered in its home and collections.
fn check_home(request: &Envelope, home: Home) -> Result<(), Failure> {
    match &request.path {
        Path::Home(at, _) if *at == home => Ok(()),
        Path::Collection(path) | Path::Object(path, _) if path.home == home => Ok(()),
        _ => Err(unsupported()),
    }
}

/// Refuses to go on with an answer that has become too large.
fn check_size(answer: &Multistatus<'_>, request: &Envelope) -> Result<(), Refusal> {
    if answer.writer.len() > request.limits.response_bytes {
        return Err(Failure::forbidden("D:number-of-matches-within-limits").into());
    }
    Ok(())
}
