//! Live properties: their names, and their values for each kind of resource.
//!
//! Before working on this file read RFC 4918 section 15, RFC 4791 sections 5.2 and 6.2, RFC 6352 sections 6.2 and 7.1,
//! RFC 3744 sections 4 and 5, RFC 5397, RFC 6578 section 4, RFC 3253 section 3.1.5.

use super::Limits;
use super::path::{self, CollectionPath, Path};
use super::session::Session;
use super::xml::{APPLE, CALDAV, CALENDAR_SERVER, CARDDAV, DAV, Name, Writer};
use crate::index::Component;
use crate::repository::{CollectionProperties, Entry, Home, ObjectId, SyncToken};

/// A resource as properties see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resource<'a> {
    /// `/`.
    Root,
    /// `/principals/`.
    Principals,
    /// The session's user.
    Principal,
    /// `/calendars/` or `/contacts/`.
    Homes(Home),
    /// A home of the session's user.
    Home(Home),
    /// A calendar or an address book.
    Collection(&'a CollectionFacts),
    /// A calendar object or a card.
    Object(&'a CollectionFacts, &'a Entry),
}

/// What properties say of a collection, taken from the store once per request.
#[derive(Debug, Clone)]
pub(crate) struct CollectionFacts {
    /// Where it is.
    pub(crate) path: CollectionPath,
    /// What is stored of it.
    pub(crate) properties: CollectionProperties,
    /// The id of its tree.
    pub(crate) ctag: ObjectId,
    /// Its present sync-token.
    pub(crate) sync_token: Option<SyncToken>,
}

macro_rules! live_properties {
    ($($(#[$doc:meta])* $variant:ident = $tag:literal $namespace:ident $local:literal,)*) => {
        /// A property whose value this service computes or checks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Live {
            $($(#[$doc])* $variant,)*
        }

        impl Live {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The tag with the writer's prefix.
            pub(crate) const fn tag(self) -> &'static str {
                match self { $(Self::$variant => $tag,)* }
            }

            /// The property of this name.
            pub(crate) fn of_name(name: &Name) -> Option<Self> {
                match (&*name.namespace, &*name.local) {
                    $(($namespace, $local) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

live_properties! {
    /// RFC 4918, section 15.9.
    ResourceType = "D:resourcetype" DAV "resourcetype",
    /// RFC 4918, section 15.2.
    DisplayName = "D:displayname" DAV "displayname",
    /// RFC 4918, section 15.6.
    GetEtag = "D:getetag" DAV "getetag",
    /// RFC 4918, section 15.5.
    GetContentType = "D:getcontenttype" DAV "getcontenttype",
    /// RFC 4918, section 15.4.
    GetContentLength = "D:getcontentlength" DAV "getcontentlength",
    /// RFC 4918, section 15.10: empty, since there are no locks.
    SupportedLock = "D:supportedlock" DAV "supportedlock",
    /// RFC 5397, section 3.
    CurrentUserPrincipal = "D:current-user-principal" DAV "current-user-principal",
    /// RFC 3744, section 4.2.
    PrincipalUrl = "D:principal-URL" DAV "principal-URL",
    /// RFC 3744, section 4.1.
    AlternateUriSet = "D:alternate-URI-set" DAV "alternate-URI-set",
    /// RFC 3744, section 4.4.
    GroupMembership = "D:group-membership" DAV "group-membership",
    /// RFC 3744, section 5.8.
    PrincipalCollectionSet = "D:principal-collection-set" DAV "principal-collection-set",
    /// RFC 3744, section 5.1.
    Owner = "D:owner" DAV "owner",
    /// RFC 3744, section 5.4.
    CurrentUserPrivilegeSet = "D:current-user-privilege-set" DAV "current-user-privilege-set",
    /// RFC 3253, section 3.1.5.
    SupportedReportSet = "D:supported-report-set" DAV "supported-report-set",
    /// RFC 6578, section 4.
    SyncToken = "D:sync-token" DAV "sync-token",
    /// RFC 4791, section 6.2.1.
    CalendarHomeSet = "C:calendar-home-set" CALDAV "calendar-home-set",
    /// RFC 6638, section 2.4.1.
    CalendarUserAddressSet = "C:calendar-user-address-set" CALDAV "calendar-user-address-set",
    /// RFC 4791, section 5.2.1.
    CalendarDescription = "C:calendar-description" CALDAV "calendar-description",
    /// RFC 4791, section 5.2.2.
    CalendarTimezone = "C:calendar-timezone" CALDAV "calendar-timezone",
    /// RFC 7809, section 5.2.
    CalendarTimezoneId = "C:calendar-timezone-id" CALDAV "calendar-timezone-id",
    /// RFC 4791, section 5.2.3.
    SupportedCalendarComponentSet = "C:supported-calendar-component-set" CALDAV "supported-calendar-component-set",
    /// RFC 4791, section 5.2.4.
    SupportedCalendarData = "C:supported-calendar-data" CALDAV "supported-calendar-data",
    /// RFC 4791, section 5.2.5.
    CalendarMaxResourceSize = "C:max-resource-size" CALDAV "max-resource-size",
    /// RFC 4791, section 7.5.1.
    CalendarCollationSet = "C:supported-collation-set" CALDAV "supported-collation-set",
    /// RFC 6638, section 9.1.
    ScheduleCalendarTransp = "C:schedule-calendar-transp" CALDAV "schedule-calendar-transp",
    /// RFC 6352, section 7.1.1.
    AddressbookHomeSet = "CR:addressbook-home-set" CARDDAV "addressbook-home-set",
    /// RFC 6352, section 6.2.1.
    AddressbookDescription = "CR:addressbook-description" CARDDAV "addressbook-description",
    /// RFC 6352, section 6.2.2.
    SupportedAddressData = "CR:supported-address-data" CARDDAV "supported-address-data",
    /// RFC 6352, section 6.2.3.
    AddressbookMaxResourceSize = "CR:max-resource-size" CARDDAV "max-resource-size",
    /// RFC 6352, section 8.3.1.
    AddressbookCollationSet = "CR:supported-collation-set" CARDDAV "supported-collation-set",
    /// CalendarServer's caldav-ctag-03.
    GetCtag = "CS:getctag" CALENDAR_SERVER "getctag",
    /// Apple's iCal.
    CalendarColor = "A:calendar-color" APPLE "calendar-color",
    /// Apple's iCal.
    CalendarOrder = "A:calendar-order" APPLE "calendar-order",
}

impl Live {
    /// Whether `allprop` gives it: those that RFC 4918 defines, and no others (RFC 4791, section 5.2, and its siblings
    /// say of theirs that they should not be there).
    pub(crate) const fn in_allprop(self) -> bool {
        matches!(
            self,
            Self::ResourceType
                | Self::DisplayName
                | Self::GetEtag
                | Self::GetContentType
                | Self::GetContentLength
                | Self::SupportedLock
        )
    }
}

/// What a session may know while properties are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Viewer<'a> {
    /// Who asks.
    pub(crate) session: &'a Session,
    /// The limits that some properties announce.
    pub(crate) limits: &'a Limits,
}

impl Resource<'_> {
    /// The percent-encoded path.
    pub(crate) fn href(&self, session: &Session) -> String {
        match self {
            Self::Root => Path::Root.encode(),
            Self::Principals => Path::Principals.encode(),
            Self::Principal => path::principal(&session.user),
            Self::Homes(home) => Path::Homes(*home).encode(),
            Self::Home(home) => path::home_path(*home, &session.user),
            Self::Collection(facts) => facts.path.encode(),
            Self::Object(facts, entry) => {
                let mut href = facts.path.encode();
                path::encode_segment(&entry.name, &mut href);
                href
            }
        }
    }

    /// The stored properties, of a collection.
    pub(crate) const fn stored(&self) -> Option<&CollectionProperties> {
        match self {
            Self::Collection(facts) => Some(&facts.properties),
            _ => None,
        }
    }

    /// The home that the resource is a collection or an object of.
    const fn kind(&self) -> Option<Home> {
        match self {
            Self::Collection(facts) | Self::Object(facts, _) => Some(facts.path.home),
            _ => None,
        }
    }

    /// Writes `property` with its value. Writes nothing and returns false when the resource does not have it.
    pub(crate) fn write(&self, property: Live, viewer: Viewer<'_>, writer: &mut Writer) -> bool {
        let start = writer.len();
        writer.open(property.tag());
        let has = self.write_value(property, viewer, writer);
        if has {
            writer.close(property.tag());
        } else {
            writer.truncate(start);
        }
        has
    }

    fn write_value(&self, property: Live, viewer: Viewer<'_>, writer: &mut Writer) -> bool {
        let session = viewer.session;
        match property {
            Live::ResourceType => self.write_resource_type(writer),
            Live::DisplayName => return self.write_display_name(session, writer),
            Live::GetEtag => match self {
                Self::Object(_, entry) => {
                    writer.raw("\"");
                    writer.number(entry.etag);
                    writer.raw("\"");
                }
                _ => return false,
            },
            Live::GetContentType => match self {
                Self::Object(_, entry) => writer.raw(content_type(entry.summary.component)),
                _ => return false,
            },
            Live::GetContentLength => match self {
                Self::Object(_, entry) => writer.number(entry.size),
                _ => return false,
            },
            Live::SupportedLock => {}
            Live::CurrentUserPrincipal => writer.href(&path::principal(&session.user)),
            Live::PrincipalUrl => match self {
                Self::Principal => writer.href(&path::principal(&session.user)),
                _ => return false,
            },
            Live::AlternateUriSet | Live::GroupMembership => return matches!(self, Self::Principal),
            Live::PrincipalCollectionSet => writer.href("/principals/"),
            Live::Owner => match self {
                Self::Root | Self::Principals | Self::Homes(_) => return false,
                _ => writer.href(&path::principal(&session.user)),
            },
            Live::CurrentUserPrivilegeSet => self.write_privileges(writer),
            Live::SupportedReportSet => self.write_reports(writer),
            Live::SyncToken => match self {
                Self::Collection(CollectionFacts { sync_token: Some(token), .. }) => {
                    write_sync_token(token, writer);
                }
                _ => return false,
            },
            Live::GetCtag => match self {
                Self::Collection(facts) => writer.number(facts.ctag),
                _ => return false,
            },
            // Clients ask wherever they happen to start, so the home sets are told everywhere above a collection.
            Live::CalendarHomeSet | Live::AddressbookHomeSet => match self {
                Self::Collection(_) | Self::Object(..) => return false,
                _ => {
                    let calendars = property == Live::CalendarHomeSet;
                    let home = if calendars { Home::Calendars } else { Home::Contacts };
                    writer.href(&path::home_path(home, &session.user));
                }
            },
            Live::CalendarUserAddressSet => match self {
                Self::Principal => {
                    for mail in &session.profile.mail {
                        writer.href(&format!("mailto:{mail}"));
                    }
                    writer.href(&path::principal(&session.user));
                }
                _ => return false,
            },
            _ => return self.write_of_kind(property, viewer.limits, writer),
        }
        true
    }

    /// Properties of calendars, address books and what is in them.
    fn write_of_kind(&self, property: Live, limits: &Limits, writer: &mut Writer) -> bool {
        let text = |value: &Option<String>, writer: &mut Writer| match value {
            Some(value) => {
                writer.text(value);
                true
            }
            None => false,
        };
        match (property, self, self.kind()) {
            (Live::CalendarDescription, Self::Collection(facts), Some(Home::Calendars))
            | (Live::AddressbookDescription, Self::Collection(facts), Some(Home::Contacts)) => {
                return text(&facts.properties.description, writer);
            }
            (Live::CalendarTimezone, Self::Collection(facts), Some(Home::Calendars)) => {
                return text(&facts.properties.timezone, writer);
            }
            (Live::CalendarTimezoneId, Self::Collection(facts), Some(Home::Calendars)) => {
                return text(&facts.properties.timezone_id, writer);
            }
            (Live::CalendarColor, Self::Collection(facts), _) => {
                return text(&facts.properties.color, writer);
            }
            (Live::CalendarOrder, Self::Collection(facts), _) => {
                return text(&facts.properties.order, writer);
            }
            (Live::ScheduleCalendarTransp, Self::Collection(facts), Some(Home::Calendars)) => {
                let transparent = facts.properties.transparent;
                writer.raw(if transparent { "<C:transparent/>" } else { "<C:opaque/>" });
            }
            (Live::SupportedCalendarComponentSet, Self::Collection(facts), Some(Home::Calendars)) => {
                write_components(&facts.properties, writer);
            }
            (Live::SupportedCalendarData, Self::Collection(_), Some(Home::Calendars)) => {
                writer.raw("<C:calendar-data content-type=\"text/calendar\" version=\"2.0\"/>");
            }
            (Live::SupportedAddressData, Self::Collection(_), Some(Home::Contacts)) => {
                for version in ["3.0", "4.0"] {
                    writer.raw("<CR:address-data-type content-type=\"text/vcard\" version=\"");
                    writer.raw(version);
                    writer.raw("\"/>");
                }
            }
            (Live::CalendarMaxResourceSize, Self::Collection(_), Some(Home::Calendars))
            | (Live::AddressbookMaxResourceSize, Self::Collection(_), Some(Home::Contacts)) => {
                writer.number(limits.resource_bytes);
            }
            (Live::CalendarCollationSet, Self::Collection(_), Some(Home::Calendars)) => {
                write_collations("C:supported-collation", writer);
            }
            (Live::AddressbookCollationSet, Self::Collection(_), Some(Home::Contacts)) => {
                write_collations("CR:supported-collation", writer);
            }
            _ => return false,
        }
        true
    }

    fn write_resource_type(&self, writer: &mut Writer) {
        match self {
            Self::Object(..) => {}
            Self::Principal => writer.raw("<D:collection/><D:principal/>"),
            Self::Collection(facts) => writer.raw(match facts.path.home {
                Home::Calendars => "<D:collection/><C:calendar/>",
                Home::Contacts => "<D:collection/><CR:addressbook/>",
            }),
            _ => writer.raw("<D:collection/>"),
        }
    }

    fn write_display_name(&self, session: &Session, writer: &mut Writer) -> bool {
        match self {
            Self::Principal | Self::Home(_) => writer.text(session.display_name()),
            // A calendar that was never named is shown by its segment rather than by nothing.
            Self::Collection(facts) => {
                writer.text(facts.properties.displayname.as_deref().unwrap_or(&facts.path.name));
            }
            _ => return false,
        }
        true
    }

    /// The owner may do everything in the homes; everything else is there to read.
    fn write_privileges(&self, writer: &mut Writer) {
        let mut privileges = vec!["D:read", "D:read-current-user-privilege-set"];
        match self {
            Self::Home(_) => privileges.extend(["D:write", "D:bind", "D:unbind"]),
            Self::Collection(_) => privileges.extend([
                "D:all",
                "D:write",
                "D:write-properties",
                "D:write-content",
                "D:bind",
                "D:unbind",
            ]),
            Self::Object(..) => privileges.extend(["D:all", "D:write", "D:write-content"]),
            _ => {}
        }
        if self.kind() == Some(Home::Calendars) {
            privileges.push("C:read-free-busy");
        }
        for privilege in privileges {
            writer.raw("<D:privilege><");
            writer.raw(privilege);
            writer.raw("/></D:privilege>");
        }
    }

    fn write_reports(&self, writer: &mut Writer) {
        let mut reports =
            vec!["D:expand-property", "D:principal-search-property-set", "D:principal-property-search"];
        match (self, self.kind()) {
            (Self::Collection(_), Some(Home::Calendars)) => {
                reports.extend([
                    "C:calendar-query",
                    "C:calendar-multiget",
                    "C:free-busy-query",
                    "D:sync-collection",
                ]);
            }
            (Self::Collection(_), Some(Home::Contacts)) => {
                reports.extend(["CR:addressbook-query", "CR:addressbook-multiget", "D:sync-collection"]);
            }
            _ => {}
        }
        for report in reports {
            writer.raw("<D:supported-report><D:report><");
            writer.raw(report);
            writer.raw("/></D:report></D:supported-report>");
        }
    }
}

/// The media type of a stored resource (RFC 5545, section 8.1; RFC 6350, section 10.1).
pub(crate) const fn content_type(component: Component) -> &'static str {
    match component {
        Component::Event => "text/calendar; charset=utf-8; component=VEVENT",
        Component::Todo => "text/calendar; charset=utf-8; component=VTODO",
        Component::Journal => "text/calendar; charset=utf-8; component=VJOURNAL",
        Component::FreeBusy => "text/calendar; charset=utf-8; component=VFREEBUSY",
        Component::Availability => "text/calendar; charset=utf-8; component=VAVAILABILITY",
        Component::Card => "text/vcard; charset=utf-8",
    }
}

/// A sync-token is a URI (RFC 6578, section 4); its data is the store's.
const SYNC_TOKEN_PREFIX: &str = "data:,";

/// Writes a sync-token as a URI.
pub(crate) fn write_sync_token(token: &SyncToken, writer: &mut Writer) {
    writer.raw(SYNC_TOKEN_PREFIX);
    writer.number(token);
}

/// Reads a sync-token.
pub(crate) fn read_sync_token(text: &str) -> Option<SyncToken> {
    text.trim().strip_prefix(SYNC_TOKEN_PREFIX)?.parse().ok()
}

fn write_components(properties: &CollectionProperties, writer: &mut Writer) {
    for component in Component::CALENDAR {
        if properties.takes(component.name()) {
            writer.raw("<C:comp name=\"");
            writer.raw(component.name());
            writer.raw("\"/>");
        }
    }
}

fn write_collations(tag: &str, writer: &mut Writer) {
    for collation in ["i;ascii-casemap", "i;octet", "i;unicode-casemap"] {
        writer.element(tag, collation);
    }
}
