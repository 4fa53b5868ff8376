//! The URL layout: what each path means, and how it is written.
//!
//! | path | what it is |
//! |---|---|
//! | `/` | where discovery ends (RFC 6764, section 6) |
//! | `/principals/USER/` | a user (RFC 3744) |
//! | `/calendars/USER/`, `/contacts/USER/` | the user's home sets |
//! | `/calendars/USER/COLLECTION/NAME` | a calendar and a calendar object in it |
//! | `/contacts/USER/COLLECTION/NAME` | an address book and a card in it |
//!
//! Segments are percent-decoded once, here. A collection's path is written with a slash at its end and read with or
//! without one.

use crate::repository::Home;

/// How long one decoded segment may be, in bytes: what file systems allow, so that a clone of the repository can be
/// checked out.
const MAX_SEGMENT: usize = 255;

/// What a path names. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/`.
    Root,
    /// `/principals/`.
    Principals,
    /// `/principals/USER/`.
    Principal(String),
    /// `/calendars/` or `/contacts/`.
    Homes(Home),
    /// `/calendars/USER/` or `/contacts/USER/`.
    Home(Home, String),
    /// A calendar or an address book.
    Collection(CollectionPath),
    /// A calendar object or a card.
    Object(CollectionPath, String),
}

/// The place of a calendar or an address book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CollectionPath {
    /// Which of the two it is.
    pub(crate) home: Home,
    /// Whose it is.
    pub(crate) user: String,
    /// Its last segment.
    pub(crate) name: String,
}

/// Why a path was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Not a path that any version of this service could have given out: bad escapes, dot segments, control
    /// characters, a segment that is empty or too long. The peer's fault.
    Malformed,
    /// A path outside the layout.
    Unknown,
}

impl Path {
    /// Reads the path of a request URI.
    pub(crate) fn parse(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix('/').ok_or(PathError::Malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return if path.len() <= 1 { Ok(Self::Root) } else { Err(PathError::Malformed) };
        }
        let mut segments = rest.split('/').map(decode_segment);
        let top = segments.next().ok_or(PathError::Malformed)??;
        let user = segments.next().transpose()?;
        let collection = segments.next().transpose()?;
        let object = segments.next().transpose()?;
        if segments.next().is_some() {
            return Err(PathError::Unknown);
        }
        if top == "principals" {
            return match (user, collection) {
                (None, _) => Ok(Self::Principals),
                (Some(user), None) => Ok(Self::Principal(user)),
                _ => Err(PathError::Unknown),
            };
        }
        let home = match top.as_str() {
            "calendars" => Home::Calendars,
            "contacts" => Home::Contacts,
            _ => return Err(PathError::Unknown),
        };
        Ok(match (user, collection, object) {
            (None, _, _) => Self::Homes(home),
            (Some(user), None, _) => Self::Home(home, user),
            (Some(user), Some(name), None) => Self::Collection(CollectionPath { home, user, name }),
            (Some(user), Some(name), Some(object)) => {
                Self::Object(CollectionPath { home, user, name }, object)
            }
        })
    }

    /// Reads an href of a body or a `Destination` header: an absolute path, or an absolute URI whose authority is not
    /// looked at (behind a port forwarding it need not be one that this service knows).
    pub(crate) fn parse_href(href: &str) -> Result<Self, PathError> {
        let href = href.trim();
        let path = match href.find("://") {
            Some(scheme)
                if href[..scheme].bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
            {
                let authority = &href[scheme + 3..];
                authority.find('/').map_or("/", |slash| &authority[slash..])
            }
            _ => href,
        };
        let end = path.find(['?', '#']).unwrap_or(path.len());
        Self::parse(&path[..end])
    }

    /// Whose it is; nobody's for the root and the lists of users.
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Self::Root | Self::Principals | Self::Homes(_) => None,
            Self::Principal(user) | Self::Home(_, user) => Some(user),
            Self::Collection(path) | Self::Object(path, _) => Some(&path.user),
        }
    }

    /// The path, percent-encoded.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Root => "/".to_owned(),
            Self::Principals => "/principals/".to_owned(),
            Self::Principal(user) => principal(user),
            Self::Homes(home) => format!("/{}/", home.folder()),
            Self::Home(home, user) => home_path(*home, user),
            Self::Collection(path) => path.encode(),
            Self::Object(path, name) => {
                let mut encoded = path.encode();
                encode_segment(name, &mut encoded);
                encoded
            }
        }
    }
}

impl CollectionPath {
    /// The path, percent-encoded, with its slash.
    pub(crate) fn encode(&self) -> String {
        let mut path = home_path(self.home, &self.user);
        encode_segment(&self.name, &mut path);
        path.push('/');
        path
    }
}

/// The path of a user's principal.
pub(crate) fn principal(user: &str) -> String {
    let mut path = String::from("/principals/");
    encode_segment(user, &mut path);
    path.push('/');
    path
}

/// The path of a user's home set.
pub(crate) fn home_path(home: Home, user: &str) -> String {
    let mut path = format!("/{}/", home.folder());
    encode_segment(user, &mut path);
    path.push('/');
    path
}

fn decode_segment(segment: &str) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit =
                || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(PathError::Malformed);
            let value = digit()? * 16 + digit()?;
            decoded.push(u8::try_from(value).map_err(|_| PathError::Malformed)?);
        } else {
            decoded.push(byte);
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::Malformed)?;
    let reserved = matches!(decoded.as_str(), "" | "." | "..") || decoded.eq_ignore_ascii_case(".git");
    let foreign = decoded.chars().any(|c| c == '/' || c == '\\' || c.is_control());
    if reserved || foreign || decoded.len() > MAX_SEGMENT { Err(PathError::Malformed) } else { Ok(decoded) }
}

/// Appends a segment, percent-encoded: RFC 3986's unreserved characters and `@` stay, since user names and UIDs are full of
/// them and clients compare hrefs as strings.
pub(crate) fn encode_segment(segment: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout() {
        let work = CollectionPath { home: Home::Calendars, user: "a@b.c".into(), name: "wörk".into() };
        for (path, expected) in [
            ("/", Path::Root),
            ("/principals/", Path::Principals),
            ("/principals/alice", Path::Principal("alice".into())),
            ("/calendars", Path::Homes(Home::Calendars)),
            ("/contacts/alice/", Path::Home(Home::Contacts, "alice".into())),
            ("/calendars/a%40b.c/w%C3%B6rk", Path::Collection(work.clone())),
            ("/calendars/a@b.c/w%c3%b6rk/x%20y.ics", Path::Object(work, "x y.ics".into())),
        ] {
            assert_eq!(Path::parse(path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_is_not_in_the_layout() {
        for path in [
            "",
            "x",
            "//",
            "/calendars//x",
            "/calendars/../x",
            "/calendars/%2e%2E/x",
            "/calendars/a%2fb/x",
            "/calendars/a/%zz",
            "/calendars/a/%f",
            "/calendars/a/%ff",
            "/calendars/a/b/%00",
            "/calendars/a/.git/x",
        ] {
            assert_eq!(Path::parse(path), Err(PathError::Malformed), "{path}");
        }
        for path in ["/x", "/principals/a/b", "/calendars/a/b/c/d"] {
            assert_eq!(Path::parse(path), Err(PathError::Unknown), "{path}");
        }
    }

    #[test]
    fn hrefs_may_be_absolute_uris() {
        let principal = Ok(Path::Principal("alice".into()));
        assert_eq!(Path::parse_href("https://host:8443/principals/alice/?x"), principal);
        assert_eq!(Path::parse_href(" /principals/alice/#x "), principal);
        assert_eq!(Path::parse_href("https://host"), Ok(Path::Root));
        assert_eq!(Path::parse_href("mailto:alice@example.org"), Err(PathError::Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(user in "[^/\\\\\\p{Cc}.]{1,20}", name in "[^/\\\\\\p{Cc}.]{1,20}", object in "[^/\\\\\\p{Cc}.]{1,20}") {
            let path = Path::Object(CollectionPath { home: Home::Contacts, user, name }, object);
            prop_assert_eq!(Path::parse(&path.encode()), Ok(path.clone()));
            prop_assert_eq!(Path::parse_href(&format!("http://x{}", path.encode())), Ok(path));
        }

        #[test]
        fn any_path_never_panics(path in "[/%a-f0-9.:?#\\PC]{0,40}") {
            let _ = Path::parse(&path);
            let _ = Path::parse_href(&path);
        }
    }
}
