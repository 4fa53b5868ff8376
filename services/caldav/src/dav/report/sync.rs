//! `sync-collection` (RFC 6578, section 3).

use bytes::Bytes;
use http::{Response, StatusCode};

use super::data::{self, DataRequest, Rendering};
use crate::dav::error::{Failure, Refusal};
use crate::dav::multistatus::{Multistatus, Selection};
use crate::dav::path::Path;
use crate::dav::properties::{Resource, read_sync_token, write_sync_token};
use crate::dav::xml::{DAV, Element};
use crate::dav::{Envelope, tree};
use crate::repository::{Snapshot, SyncToken, Tables};

/// The report, read.
#[derive(Debug)]
pub(crate) struct SyncCollection {
    since: Option<SyncToken>,
    limit: usize,
    selection: Selection<DataRequest>,
}

impl SyncCollection {
    pub(super) fn read(request: &Envelope, root: &Element) -> Result<Self, Failure> {
        let Path::Collection(path) = &request.path else { return Err(super::unsupported()) };
        let token = root.child(DAV, "sync-token").map(Element::text).unwrap_or_default();
        let since = if token.trim().is_empty() {
            None
        } else {
            Some(read_sync_token(&token).ok_or(Failure::forbidden("D:valid-sync-token"))?)
        };
        // Members of a collection have no members, so level infinite is level one.
        let level = root.child(DAV, "sync-level").map(Element::text).unwrap_or_default();
        if !matches!(level.trim(), "" | "1" | "infinite" | "infinity") {
            return Err(Failure::status(StatusCode::BAD_REQUEST).because("sync-level is 1 or infinite"));
        }
        let wanted = root.child(DAV, "limit").and_then(|limit| limit.child(DAV, "nresults"));
        let wanted = wanted.and_then(|wanted| wanted.text().trim().parse::<usize>().ok());
        let limit = wanted.unwrap_or(usize::MAX).clamp(1, request.limits.results);
        let selection = Selection::of_request(root, |element| data::read(element, path.home))?;
        Ok(Self { since, limit, selection })
    }

    pub(super) fn run<T: Tables>(
        &self,
        request: &Envelope,
        transaction: &T,
    ) -> Result<Response<Bytes>, Refusal> {
        let Path::Collection(path) = &request.path else { return Err(tree::not_found()) };
        let snapshot = Snapshot::open(transaction, &request.session.user)?;
        let collection = tree::collection(&snapshot, path)?;
        let facts = tree::facts(&snapshot, &collection, path)?;
        let changes = collection.changes(self.since.as_ref(), self.limit)?;
        let mut answer =
            Multistatus::new(request.viewer(), request.prefers_minimal(), changes.changed.len() * 400);
        let rendering = Rendering::of(&self.selection);
        for (name, _) in &changes.changed {
            match collection.entry(name)? {
                Some(entry) => {
                    let resource = Resource::Object(&facts, &entry);
                    if rendering.reads() {
                        collection.with_bytes(&entry, |bytes| {
                            let data = rendering.render(bytes, &facts)?;
                            answer.resource(&resource, &self.selection, Some(&data));
                            Ok::<_, Refusal>(())
                        })??;
                    } else {
                        answer.resource(&resource, &self.selection, None);
                    }
                    super::check_size(&answer, request)?;
                }
                // A later commit than the one being reported took it away; the next report will say so, too.
                None => {
                    answer.status(&Path::Object(path.clone(), name.clone()).encode(), StatusCode::NOT_FOUND);
                }
            }
        }
        for name in &changes.removed {
            answer.status(&Path::Object(path.clone(), name.clone()).encode(), StatusCode::NOT_FOUND);
        }
        if changes.truncated {
            // RFC 6578, section 3.6.
            let failure = Failure::forbidden("D:number-of-matches-within-limits")
                .with_status(StatusCode::INSUFFICIENT_STORAGE);
            answer.failure(&path.encode(), &failure);
        }
        answer.writer.open("D:sync-token");
        write_sync_token(&changes.token, &mut answer.writer);
        answer.writer.close("D:sync-token");
        Ok(answer.finish())
    }
}
