//! Matching of texts and parameters, as CalDAV (RFC 4791 clauses 9.7.3 to 9.7.5) and CardDAV (RFC 6352 clauses 10.5.2
//! to 10.5.4) share it.

use super::Property;

/// How texts are compared (RFC 4790, RFC 5051).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collation {
    /// `i;ascii-casemap`, CalDAV's default: ASCII letters are equal in either case.
    #[default]
    AsciiCasemap,
    /// `i;octet`: bytes.
    Octet,
    /// `i;unicode-casemap`, CardDAV's default: all letters are equal in either case.
    UnicodeCasemap,
}

impl Collation {
    /// The collations a server must name in `supported-collation-set`.
    pub const ALL: [Self; 3] = [Self::AsciiCasemap, Self::Octet, Self::UnicodeCasemap];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AsciiCasemap => "i;ascii-casemap",
            Self::Octet => "i;octet",
            Self::UnicodeCasemap => "i;unicode-casemap",
        }
    }

    /// The collation of this registered name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|collation| collation.name() == name)
    }

    fn key(self, text: &str) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Octet => text.into(),
            Self::AsciiCasemap => text.to_ascii_lowercase().into(),
            // RFC 5051 maps to title case; where one letter's forms all meet, upper then lower case meets there too.
            Self::UnicodeCasemap => text.to_uppercase().to_lowercase().into(),
        }
    }
}

/// Where the text must lie (`match-type` of RFC 6352 clause 10.5.4; CalDAV has only `Contains`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchType {
    /// The whole value.
    Equals,
    /// Anywhere.
    #[default]
    Contains,
    /// At the beginning.
    StartsWith,
    /// At the end.
    EndsWith,
}

/// `text-match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMatch {
    /// What to look for.
    pub text: String,
    /// How texts are compared.
    pub collation: Collation,
    /// Where it must lie.
    pub match_type: MatchType,
    /// `negate-condition`.
    pub negate: bool,
}

impl TextMatch {
    /// Whether a value matches; `negate` is not yet applied.
    fn meets(&self, value: &str) -> bool {
        let (value, text) = (self.collation.key(value), self.collation.key(&self.text));
        match self.match_type {
            MatchType::Equals => value == text,
            MatchType::Contains => value.contains(&*text),
            MatchType::StartsWith => value.starts_with(&*text),
            MatchType::EndsWith => value.ends_with(&*text),
        }
    }

    /// Whether the text of a value matches.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.meets(value) != self.negate
    }

    /// Whether any of the values matches or, negated, none does.
    pub fn matches_any<S: AsRef<str>>(&self, mut values: impl Iterator<Item = S>) -> bool {
        values.any(|value| self.meets(value.as_ref())) != self.negate
    }
}

/// `param-filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterFilter {
    /// The parameter's name, in any case.
    pub name: String,
    /// What is asked of it.
    pub condition: ParameterCondition,
}

/// What a [`ParameterFilter`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterCondition {
    /// It is not there (`is-not-defined`).
    NotDefined,
    /// It is there.
    Defined,
    /// A value of it matches.
    Text(TextMatch),
}

impl ParameterFilter {
    /// Whether a property's parameters match.
    #[must_use]
    pub fn matches(&self, property: &Property<'_>) -> bool {
        let mut named = property.parameters().filter(|p| p.name.eq_ignore_ascii_case(&self.name)).peekable();
        let defined = named.peek().is_some();
        match &self.condition {
            ParameterCondition::NotDefined => !defined,
            ParameterCondition::Defined => defined,
            ParameterCondition::Text(text) => {
                defined && text.matches_any(named.flat_map(|parameter| parameter.values()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contentline::property;

    fn text(text: &str, collation: Collation, match_type: MatchType) -> TextMatch {
        TextMatch { text: text.into(), collation, match_type, negate: false }
    }

    #[test]
    fn collations_differ_in_what_they_fold() {
        for (collation, ascii, unicode) in [
            (Collation::Octet, false, false),
            (Collation::AsciiCasemap, true, false),
            (Collation::UnicodeCasemap, true, true),
        ] {
            assert_eq!(text("TEA", collation, MatchType::Contains).matches("green tea"), ascii);
            assert_eq!(text("ÜBER", collation, MatchType::Contains).matches("über"), unicode);
            assert_eq!(text("strasse", collation, MatchType::Equals).matches("STRASSE"), ascii);
            assert_eq!(Collation::of_name(collation.name()), Some(collation));
        }
    }

    #[test]
    fn match_types_and_negation() {
        for (match_type, expected) in [
            (MatchType::Equals, [true, false, false, false]),
            (MatchType::Contains, [true, true, true, true]),
            (MatchType::StartsWith, [true, true, false, false]),
            (MatchType::EndsWith, [true, false, true, false]),
        ] {
            for (value, expected) in ["ab", "abx", "xab", "xabx"].into_iter().zip(expected) {
                let mut filter = text("ab", Collation::Octet, match_type);
                assert_eq!(filter.matches(value), expected, "{match_type:?} {value}");
                filter.negate = true;
                assert_eq!(filter.matches(value), !expected, "not {match_type:?} {value}");
            }
        }
    }

    #[test]
    fn parameters_match_by_any_value() {
        let line = property("ATTENDEE;CN=\"Doe, J.\";ROLE=CHAIR,\"x;y\":mailto:j@example.org").unwrap();
        let filter = |name: &str, condition| ParameterFilter { name: name.into(), condition }.matches(&line);
        let has = |t: &str| ParameterCondition::Text(text(t, Collation::AsciiCasemap, MatchType::Equals));
        assert!(filter("cn", has("doe, j.")));
        assert!(filter("role", has("X;Y")));
        assert!(!filter("role", has("y")));
        assert!(!filter("partstat", has("y")));
        assert!(filter("partstat", ParameterCondition::NotDefined));
        assert!(filter("role", ParameterCondition::Defined));
        assert!(!filter("role", ParameterCondition::NotDefined));
    }
}
