//! Expanded names (Namespaces in XML 1.0, section 2.1) and the namespaces that this service speaks.

use core::fmt;
use std::borrow::Cow;

/// WebDAV (RFC 4918).
pub(crate) const DAV: &str = "DAV:";
/// CalDAV (RFC 4791).
pub(crate) const CALDAV: &str = "urn:ietf:params:xml:ns:caldav";
/// CardDAV (RFC 6352).
pub(crate) const CARDDAV: &str = "urn:ietf:params:xml:ns:carddav";
/// The extensions of Apple's CalendarServer: `getctag`.
pub(crate) const CALENDAR_SERVER: &str = "http://calendarserver.org/ns/";
/// The extensions of Apple's iCal: `calendar-color`, `calendar-order`.
pub(crate) const APPLE: &str = "http://apple.com/ns/ical/";

/// The namespaces that almost every name is in; a name in one of them borrows it.
const KNOWN: [&str; 5] = [DAV, CALDAV, CARDDAV, CALENDAR_SERVER, APPLE];

/// A namespace and a local name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The namespace, empty for none.
    pub(crate) namespace: Cow<'static, str>,
    /// The name within the namespace.
    pub(crate) local: Cow<'static, str>,
}

impl Name {
    /// A name that came from outside.
    pub(crate) fn new(namespace: &str, local: &str) -> Self {
        let namespace = match KNOWN.into_iter().find(|known| *known == namespace) {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(namespace.to_owned()),
        };
        Self { namespace, local: Cow::Owned(local.to_owned()) }
    }

    /// Whether this is `local` in `namespace`.
    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.local == local && self.namespace == namespace
    }
}

impl fmt::Display for Name {
    /// Clark's notation: `{DAV:}prop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}{}", self.namespace, self.local)
    }
}
