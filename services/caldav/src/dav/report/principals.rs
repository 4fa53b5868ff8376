//! Reports about users: `principal-property-search`, `principal-search-property-set`, `principal-match` (RFC 3744,
//! section 9). A user sees nobody else, so each is about the one who asks.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use crate::dav::Envelope;
use crate::dav::error::{Failure, XML_TYPE};
use crate::dav::limits::MAX_PROPERTIES;
use crate::dav::multistatus::{Multistatus, NoData, Property, Selection};
use crate::dav::path;
use crate::dav::properties::{Live, Resource};
use crate::dav::xml::{DAV, Element, Writer};

/// A search for users.
#[derive(Debug)]
pub(crate) struct PrincipalSearch {
    found: bool,
    selection: Selection<NoData>,
}

impl PrincipalSearch {
    /// Reads `principal-property-search`.
    pub(super) fn read(request: &Envelope, root: &Element) -> Result<Self, Failure> {
        let any = root.attribute("test") == Some("anyof");
        let mut results = Vec::new();
        for search in root.children().filter(|child| child.name.is(DAV, "property-search")) {
            let text = search.child(DAV, "match").map(Element::text).unwrap_or_default().to_lowercase();
            let Some(prop) = search.child(DAV, "prop") else {
                return Err(Failure::status(StatusCode::BAD_REQUEST).because("a property-search has a prop"));
            };
            results.extend(
                prop.children().map(|property| matches(request, Live::of_name(&property.name), &text)),
            );
        }
        // Without a condition everybody there is to see is found.
        let found =
            if any { results.is_empty() || results.contains(&true) } else { !results.contains(&false) };
        let mut selection = Selection::of_request(root, |_| Ok(None))?;
        // python-caldav writes the properties beside an empty prop.
        if let Selection::These(properties) = &mut selection
            && properties.is_empty()
        {
            let beside = root.children().filter_map(|child| Live::of_name(&child.name));
            properties.extend(beside.take(MAX_PROPERTIES).map(Property::Live));
        }
        Ok(Self { found, selection })
    }

    /// Reads `principal-match`: only `self` can match, by its principal.
    pub(super) fn read_match(root: &Element) -> Result<Self, Failure> {
        let found = root.child(DAV, "self").is_some();
        Ok(Self { found, selection: Selection::of_request(root, |_| Ok(None))? })
    }

    pub(super) fn run(&self, request: &Envelope) -> Response<Bytes> {
        let mut answer = Multistatus::new(request.viewer(), request.prefers_minimal(), 0);
        if self.found {
            answer.resource(&Resource::Principal, &self.selection, None);
        }
        answer.finish()
    }
}

/// Answers `principal-search-property-set`: what can be searched for.
pub(super) fn search_properties() -> Response<Bytes> {
    let mut writer = Writer::document("principal-search-property-set", 0);
    for (property, description) in
        [(Live::DisplayName, "Name"), (Live::CalendarUserAddressSet, "Calendar user address")]
    {
        writer.raw("<D:principal-search-property><D:prop>");
        writer.empty_tag(property.tag());
        writer.raw("</D:prop><D:description xml:lang=\"en\">");
        writer.text(description);
        writer.raw("</D:description></D:principal-search-property>");
    }
    let mut response = Response::new(Bytes::from(writer.finish("principal-search-property-set")));
    response.headers_mut().insert(CONTENT_TYPE, XML_TYPE);
    response
}

fn matches(request: &Envelope, property: Option<Live>, text: &str) -> bool {
    let session = &request.session;
    let contains = |value: &str| value.to_lowercase().contains(text);
    match property {
        Some(Live::DisplayName) => contains(session.display_name()),
        Some(Live::CalendarUserAddressSet) => {
            let addresses = session.profile.mail.iter().map(|mail| format!("mailto:{mail}"));
            addresses.chain([path::principal(&session.user)]).any(|address| contains(&address))
        }
        _ => false,
    }
}
