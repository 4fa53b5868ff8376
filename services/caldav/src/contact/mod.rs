//! vCard: validation, the filter of `addressbook-query`, and parts of a card.
//!
//! Before working on this folder read RFC 6350, RFC 2426 and RFC 6352 clauses 5.1, 6.3.2 and 10.4 to 10.6.

use std::fmt;

use crate::calendar::MAX_UID_BYTES;
use crate::contentline::matching::{ParameterFilter, TextMatch};
use crate::contentline::{
    Component as Card, ParseError, Property, Writer, decode, parse, split_unescaped, unescape,
};
use crate::index::{Component, Span, Summary};
use crate::repository::MAX_RESOURCE_BYTES;

/// Why a contact cannot be stored. All are the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Larger than [`MAX_RESOURCE_BYTES`] (`max-resource-size`).
    TooLarge,
    /// Not a vCard (`valid-address-data`).
    Syntax(ParseError),
    /// Not one VCARD (`valid-address-data`).
    NotOneCard,
    /// Of another version than 3.0 and 4.0 (`supported-address-data`).
    Version,
    /// It has no UID, several, or one that cannot be a key (`valid-address-data`; RFC 6352 clause 5.1).
    Uid,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the contact has more than {MAX_RESOURCE_BYTES} bytes"),
            Self::Syntax(error) => error.fmt(f),
            Self::NotOneCard => f.write_str("the contact is not one VCARD"),
            Self::Version => f.write_str("the vCard is not of version 3.0 or 4.0"),
            Self::Uid => f.write_str("the vCard does not have one UID"),
        }
    }
}

impl std::error::Error for Invalid {}

impl From<ParseError> for Invalid {
    fn from(error: ParseError) -> Self {
        Self::Syntax(error)
    }
}

/// Checks a contact to be stored, and sums it up for the index.
///
/// # Errors
/// See [`Invalid`].
pub fn validate(bytes: &[u8]) -> Result<Summary, Invalid> {
    if bytes.len() > MAX_RESOURCE_BYTES {
        return Err(Invalid::TooLarge);
    }
    let text = decode(bytes)?;
    let mut cards = parse(&text)?;
    let (Some(card), true) = (cards.pop(), cards.is_empty()) else { return Err(Invalid::NotOneCard) };
    if !card.is("VCARD") {
        return Err(Invalid::NotOneCard);
    }
    if !card.property("VERSION").is_some_and(|version| matches!(version.value.trim_ascii(), "3.0" | "4.0")) {
        return Err(Invalid::Version);
    }
    let mut uids = card.all("UID");
    let uid = uids.next().ok_or(Invalid::Uid)?.text();
    let sound = !uid.is_empty() && uid.len() <= MAX_UID_BYTES && !uid.chars().any(char::is_control);
    if !sound || uids.next().is_some() {
        return Err(Invalid::Uid);
    }
    Ok(Summary { component: Component::Card, uid: uid.into_owned(), recurring: false, span: Span::ALWAYS })
}

/// Whether all parts of a filter must match, or one is enough (`test`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Test {
    /// One is enough.
    #[default]
    AnyOf,
    /// All must match.
    AllOf,
}

impl Test {
    /// Without parts, both are true.
    fn holds<T>(self, parts: &[T], mut meets: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::AnyOf => parts.is_empty() || parts.iter().any(&mut meets),
            Self::AllOf => parts.iter().all(&mut meets),
        }
    }
}

/// `CARDDAV:filter` (RFC 6352 clause 10.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// How the parts combine.
    pub test: Test,
    /// The parts; without any, every contact matches.
    pub properties: Vec<PropertyFilter>,
}

/// `prop-filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyFilter {
    /// The property's name, in any case; with a group and a dot only properties of that group.
    pub name: String,
    /// What is asked of it.
    pub condition: PropertyCondition,
}

/// What a [`PropertyFilter`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyCondition {
    /// There is none of this name (`is-not-defined`).
    NotDefined,
    /// One of this name meets these; without any it is enough that it is there.
    Defined {
        /// How the parts combine.
        test: Test,
        /// Its value.
        texts: Vec<TextMatch>,
        /// Its parameters.
        parameters: Vec<ParameterFilter>,
    },
}

impl Filter {
    /// Whether a contact matches. What is not one vCard does not match.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let Ok(text) = decode(bytes) else { return false };
        let Ok(cards) = parse(&text) else { return false };
        let Some(card) = cards.first() else { return false };
        self.test.holds(&self.properties, |filter| filter.matches(card))
    }
}

impl PropertyFilter {
    fn matches(&self, card: &Card<'_>) -> bool {
        let mut named = card.properties.iter().filter(|property| is_named(property, &self.name));
        match &self.condition {
            PropertyCondition::NotDefined => named.next().is_none(),
            PropertyCondition::Defined { test, texts, parameters } => named.any(|property| {
                let value = text_of(property);
                let text = |text: &TextMatch| text.matches(&value);
                let parameter = |filter: &ParameterFilter| filter.matches(property);
                match test {
                    Test::AllOf => texts.iter().all(text) && parameters.iter().all(parameter),
                    Test::AnyOf if texts.is_empty() && parameters.is_empty() => true,
                    Test::AnyOf => texts.iter().any(text) || parameters.iter().any(parameter),
                }
            }),
        }
    }
}

/// Whether a property has this name; a name without a group fits every group (clause 10.5.1).
fn is_named(property: &Property<'_>, name: &str) -> bool {
    if name.contains('.') { property.name.eq_ignore_ascii_case(name) } else { property.is(name) }
}

/// The text of a value: the parts of a structured one are unescaped each by itself and joined as they were.
fn text_of(property: &Property<'_>) -> String {
    if !property.value.contains('\\') {
        return property.value.to_owned();
    }
    let parts: Vec<_> = split_unescaped(property.value, b';').map(unescape).collect();
    parts.join(";")
}

/// `address-data` in a request (clause 10.4): the properties wanted; `None` for the client's bytes as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressData {
    /// Names of properties and whether only the name is wanted (`novalue`).
    pub properties: Option<Vec<(String, bool)>>,
}

impl AddressData {
    /// The contact as asked for. VERSION always comes: without it, it is no vCard.
    ///
    /// # Errors
    /// [`ParseError`], for a resource that is not a vCard.
    pub fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>, ParseError> {
        let Some(wanted) = &self.properties else { return Ok(bytes.to_vec()) };
        let text = decode(bytes)?;
        let mut writer = Writer::default();
        for card in parse(&text)? {
            writer.line(&["BEGIN:", card.name]);
            for property in &card.properties {
                match wanted.iter().find(|(name, _)| is_named(property, name)) {
                    Some((_, true)) => writer.property_without_value(property),
                    Some((_, false)) => writer.property(property),
                    None if property.is("VERSION") => writer.property(property),
                    None => {}
                }
            }
            writer.line(&["END:", card.name]);
        }
        Ok(writer.finish().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contentline::matching::{Collation, MatchType, ParameterCondition};

    const ADA: &[u8] = b"BEGIN:VCARD\r\nVERSION:4.0\r\nUID:ada\r\nFN:Ada L\xc3\xb6velace\r\n\
        N:L\xc3\xb6velace\\;x;Ada;;;\r\nitem1.EMAIL;TYPE=home:ada@example.org\r\n\
        EMAIL;TYPE=\"work,fax\":Ada@Example.com\r\nNOTE:long\r\n er\r\nEND:VCARD\r\n";

    fn property(name: &str, test: Test, texts: &[(&str, MatchType, bool)]) -> PropertyFilter {
        let texts = texts
            .iter()
            .map(|&(text, match_type, negate)| TextMatch {
                text: text.into(),
                collation: Collation::UnicodeCasemap,
                match_type,
                negate,
            })
            .collect();
        PropertyFilter {
            name: name.into(),
            condition: PropertyCondition::Defined { test, texts, parameters: vec![] },
        }
    }

    fn one(filter: PropertyFilter) -> Filter {
        Filter { test: Test::AnyOf, properties: vec![filter] }
    }

    #[test]
    fn a_card_is_checked_and_summed_up() {
        assert_eq!(validate(ADA).unwrap().uid, "ada");
        let lower = String::from_utf8(ADA.to_vec()).unwrap().replace("BEGIN:VCARD", "begin:vcard");
        assert_eq!(validate(lower.replace("\r\n", "\n").as_bytes()).unwrap().uid, "ada");
        for (bad, error) in [
            ("", Invalid::NotOneCard),
            ("BEGIN:VCALENDAR\nVERSION:4.0\nUID:a\nEND:VCALENDAR", Invalid::NotOneCard),
            ("BEGIN:VCARD\nVERSION:2.1\nUID:a\nEND:VCARD", Invalid::Version),
            ("BEGIN:VCARD\nUID:a\nEND:VCARD", Invalid::Version),
            ("BEGIN:VCARD\nVERSION:3.0\nEND:VCARD", Invalid::Uid),
            ("BEGIN:VCARD\nVERSION:3.0\nUID:a\nUID:b\nEND:VCARD", Invalid::Uid),
            ("BEGIN:VCARD\nVERSION:3.0\nUID:\nEND:VCARD", Invalid::Uid),
            (
                "BEGIN:VCARD\nVERSION:3.0\nUID:a\nEND:VCARD\nBEGIN:VCARD\nVERSION:3.0\nUID:b\nEND:VCARD",
                Invalid::NotOneCard,
            ),
            (
                "BEGIN:VCARD\nVERSION:3.0\nUID:a",
                Invalid::Syntax(ParseError::End { line: 3, expected: "VCARD".into() }),
            ),
        ] {
            assert_eq!(validate(bad.as_bytes()), Err(error), "{bad}");
        }
    }

    #[test]
    fn filters_of_the_rfc() {
        use MatchType::{Contains, EndsWith, Equals, StartsWith};
        for (filter, expected) in [
            (property("fn", Test::AnyOf, &[("ada L\u{d6}V", StartsWith, false)]), true),
            (property("FN", Test::AnyOf, &[("ada", Equals, false)]), false),
            (property("FN", Test::AnyOf, &[("x", Contains, false), ("lace", EndsWith, false)]), true),
            (property("FN", Test::AllOf, &[("x", Contains, false), ("lace", EndsWith, false)]), false),
            (property("FN", Test::AnyOf, &[("ada", Contains, true)]), false),
            (property("N", Test::AnyOf, &[("velace;x;Ada", Contains, false)]), true),
            (property("NOTE", Test::AnyOf, &[("longer", Equals, false)]), true),
            (property("EMAIL", Test::AnyOf, &[("example.com", EndsWith, false)]), true),
            (property("item1.EMAIL", Test::AnyOf, &[("example.com", EndsWith, false)]), false),
            (property("item1.email", Test::AnyOf, &[]), true),
            (property("TEL", Test::AnyOf, &[]), false),
            (PropertyFilter { name: "TEL".into(), condition: PropertyCondition::NotDefined }, true),
            (PropertyFilter { name: "FN".into(), condition: PropertyCondition::NotDefined }, false),
        ] {
            assert_eq!(one(filter.clone()).matches(ADA), expected, "{filter:?}");
        }
        let (yes, no) = (property("FN", Test::AnyOf, &[]), property("TEL", Test::AnyOf, &[]));
        let both = |test| Filter { test, properties: vec![yes.clone(), no.clone()] }.matches(ADA);
        assert!(both(Test::AnyOf) && !both(Test::AllOf));
        assert!(Filter::default().matches(ADA));
        let home = ParameterFilter { name: "type".into(), condition: ParameterCondition::Defined };
        let filter = |name: &str| {
            one(PropertyFilter {
                name: name.into(),
                condition: PropertyCondition::Defined {
                    test: Test::AnyOf,
                    texts: vec![],
                    parameters: vec![home.clone()],
                },
            })
        };
        assert!(filter("EMAIL").matches(ADA) && !filter("FN").matches(ADA));
    }

    #[test]
    fn parts_of_a_card() {
        let data = AddressData { properties: Some(vec![("EMAIL".into(), false), ("FN".into(), true)]) };
        assert_eq!(
            String::from_utf8(data.apply(ADA).unwrap()).unwrap(),
            "BEGIN:VCARD\r\nVERSION:4.0\r\nFN:\r\nitem1.EMAIL;TYPE=home:ada@example.org\r\n\
             EMAIL;TYPE=\"work,fax\":Ada@Example.com\r\nEND:VCARD\r\n"
        );
        assert_eq!(AddressData::default().apply(ADA).unwrap(), ADA);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validate(&bytes);
            let _ = Filter { test: Test::AllOf, properties: vec![property("FN", Test::AllOf, &[])] }.matches(&bytes);
        }
    }
}
