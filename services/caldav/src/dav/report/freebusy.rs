//! `free-busy-query` (RFC 4791, section 7.10).

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::filter;
use crate::calendar::{FreeBusy, TimeRange, Zone};
use crate::dav::error::{Failure, Refusal};
use crate::dav::path::Path;
use crate::dav::properties::content_type;
use crate::dav::xml::Element;
use crate::dav::{Envelope, tree};
use crate::index::{Component, Span};
use crate::repository::{Home, Snapshot, Tables};

/// The report, read.
#[derive(Debug)]
pub(crate) struct FreeBusyQuery {
    range: TimeRange,
}

impl FreeBusyQuery {
    pub(super) fn read(request: &Envelope, root: &Element) -> Result<Self, Failure> {
        super::check_home(request, Home::Calendars)?;
        match filter::time_range(root)? {
            Some(range) if range.start.is_some() && range.end.is_some() => Ok(Self { range }),
            _ => Err(Failure::status(StatusCode::BAD_REQUEST)
                .because("a free-busy-query has a time-range with a start and an end")),
        }
    }

    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let snapshot = Snapshot::open(transaction, &request.session.user)?;
        let paths = match &request.path {
            Path::Home(home, user) => tree::collections(&snapshot, *home, user)?,
            Path::Collection(path) => vec![path.clone()],
            _ => return Err(super::unsupported().into()),
        };
        let span = Span { start: self.range.first(), end: self.range.after() };
        let mut busy = FreeBusy::new(self.range);
        for path in &paths {
            let collection = tree::collection(&snapshot, path)?;
            let properties = collection.properties()?;
            // RFC 6638, section 9.1: a transparent calendar takes no time, unless it is asked about by itself.
            if properties.transparent && paths.len() > 1 {
                continue;
            }
            let zone = Zone::of_collection(&properties);
            for entry in collection.resources()? {
                let entry = entry?;
                if entry.summary.span.may_meet(span) {
                    collection.with_bytes(&entry, |bytes| busy.add(bytes, &zone))?;
                }
            }
        }
        let now = request.session.seconds();
        let uid = format!("freebusy-{}-{}-{now}@{}", span.start, span.end, request.session.user);
        let mut response = Response::new(Bytes::from(busy.finish(now, &uid)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type(Component::FreeBusy)));
        Ok(response)
    }
}
