//! What queries need to know of a resource without reading it: a compact summary, kept beside the git objects.
//!
//! A summary is computed from a resource's bytes when it is stored. A `calendar-query` over 10,000 events then reads one
//! range of one table, and opens only the resources whose span meets the time asked for.

use gix_hash::ObjectId;

/// The one component of a calendar object resource (RFC 4791 clause 4.1), or a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Component {
    /// `VEVENT`.
    Event = 1,
    /// `VTODO`.
    Todo = 2,
    /// `VJOURNAL`.
    Journal = 3,
    /// `VFREEBUSY`.
    FreeBusy = 4,
    /// `VAVAILABILITY` (RFC 7953).
    Availability = 5,
    /// `VCARD` (RFC 6350).
    Card = 6,
}

impl Component {
    /// All that a calendar can hold.
    pub const CALENDAR: [Self; 5] =
        [Self::Event, Self::Todo, Self::Journal, Self::FreeBusy, Self::Availability];

    /// The name in iCalendar and vCard, in upper case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "VEVENT",
            Self::Todo => "VTODO",
            Self::Journal => "VJOURNAL",
            Self::FreeBusy => "VFREEBUSY",
            Self::Availability => "VAVAILABILITY",
            Self::Card => "VCARD",
        }
    }

    /// The calendar component of this name in any case.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::CALENDAR.into_iter().find(|component| component.name().eq_ignore_ascii_case(name))
    }
}

/// A span of POSIX time in seconds: from `start`, to before `end`. `i64::MIN` and `i64::MAX` mean without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First second.
    pub start: i64,
    /// First second after.
    pub end: i64,
}

impl Span {
    /// All time.
    pub const ALWAYS: Self = Self { start: i64::MIN, end: i64::MAX };

    /// Whether the two have a second in common, or touch: what cannot be excluded is included.
    #[must_use]
    pub const fn may_meet(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// What the index keeps of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is.
    pub component: Component,
    /// Its UID; empty for a contact without one.
    pub uid: String,
    /// Whether it has more than one instance.
    pub recurring: bool,
    /// A span that holds every instance, whatever time zone floating times are read in. Wider than exact, never
    /// narrower.
    pub span: Span,
}

/// A resource in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id of its blob.
    pub blob: ObjectId,
    /// Length of its bytes.
    pub size: u32,
    /// What is known of it.
    pub summary: Summary,
}

/// Bytes before the UID: blob id, size, component, flags, start, end.
const HEAD: usize = 20 + 4 + 1 + 1 + 8 + 8;

impl Row {
    /// The row as stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.summary.uid.len());
        bytes.extend_from_slice(self.blob.as_slice());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.push(self.summary.component as u8);
        bytes.push(u8::from(self.summary.recurring));
        bytes.extend_from_slice(&self.summary.span.start.to_le_bytes());
        bytes.extend_from_slice(&self.summary.span.end.to_le_bytes());
        bytes.extend_from_slice(self.summary.uid.as_bytes());
        bytes
    }

    /// Reads a stored row; `None` if it is damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (blob, rest) = bytes.split_first_chunk::<20>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (&[component, flags], rest) = rest.split_first_chunk::<2>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (end, uid) = rest.split_first_chunk::<8>()?;
        let component = match component {
            1 => Component::Event,
            2 => Component::Todo,
            3 => Component::Journal,
            4 => Component::FreeBusy,
            5 => Component::Availability,
            6 => Component::Card,
            _ => return None,
        };
        Some(Self {
            blob: ObjectId::from(*blob),
            size: u32::from_le_bytes(*size),
            summary: Summary {
                component,
                uid: String::from_utf8(uid.to_vec()).ok()?,
                recurring: flags & 1 != 0,
                span: Span { start: i64::from_le_bytes(*start), end: i64::from_le_bytes(*end) },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_its_encoding() {
        for component in Component::CALENDAR.into_iter().chain([Component::Card]) {
            let row = Row {
                blob: ObjectId::empty_blob(gix_hash::Kind::Sha1),
                size: 77,
                summary: Summary {
                    component,
                    uid: "ü@x".into(),
                    recurring: true,
                    span: Span { start: -5, end: i64::MAX },
                },
            };
            assert_eq!(Row::decode(&row.encode()), Some(row.clone()));
            assert_eq!(Row::decode(&row.encode()[..41]), None);
        }
    }
}
