//! The properties of a collection, in a file of the repository: `collection.toml`.
//!
//! They are versioned like everything else, so PROPPATCH is a commit and a clone shows the names of the calendars.

use core::fmt::Write;

use serde::Deserialize;

use super::Error;

/// Name of the file, beside the sixteen folders of resources.
pub(super) const FILE: &str = "collection.toml";

/// Largest `collection.toml`, in bytes: a time zone definition and some dead properties fit many times.
pub const MAX_PROPERTIES_BYTES: usize = 64 * 1024;

/// What a collection says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionProperties {
    /// `DAV:displayname`.
    pub displayname: Option<String>,
    /// `calendar-description` or `addressbook-description`.
    pub description: Option<String>,
    /// Apple's `calendar-color`.
    pub color: Option<String>,
    /// Apple's `calendar-order`.
    pub order: Option<String>,
    /// `calendar-timezone` (RFC 4791 clause 5.2.2): an iCalendar object with one VTIMEZONE.
    pub timezone: Option<String>,
    /// `calendar-timezone-id` (RFC 7809): an IANA name.
    pub timezone_id: Option<String>,
    /// `supported-calendar-component-set` (RFC 4791 clause 5.2.3): upper-case names. Empty: every component the
    /// server knows.
    pub components: Vec<String>,
    /// Whether the calendar is `transparent` to free-busy (RFC 6638 clause 9.1).
    pub transparent: bool,
    /// Properties that the server keeps without understanding them.
    #[serde(rename = "property")]
    pub dead: Vec<DeadProperty>,
}

/// A property kept as the client gave it (RFC 4918 clause 4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadProperty {
    /// The namespace's URI.
    pub namespace: String,
    /// The local name.
    pub name: String,
    /// The whole element, with the namespaces it needs.
    pub xml: String,
}

impl CollectionProperties {
    /// Whether a calendar object of this component may be stored here.
    #[must_use]
    pub fn takes(&self, component: &str) -> bool {
        self.components.is_empty()
            || self.components.iter().any(|taken| taken.eq_ignore_ascii_case(component))
    }

    /// The file's text.
    pub(super) fn to_toml(&self) -> String {
        let mut text = String::new();
        for (key, value) in [
            ("displayname", &self.displayname),
            ("description", &self.description),
            ("color", &self.color),
            ("order", &self.order),
            ("timezone", &self.timezone),
            ("timezone_id", &self.timezone_id),
        ] {
            if let Some(value) = value {
                text.push_str(key);
                text.push_str(" = ");
                quote(&mut text, value);
                text.push('\n');
            }
        }
        if !self.components.is_empty() {
            text.push_str("components = [");
            for (position, component) in self.components.iter().enumerate() {
                if position > 0 {
                    text.push_str(", ");
                }
                quote(&mut text, component);
            }
            text.push_str("]\n");
        }
        if self.transparent {
            text.push_str("transparent = true\n");
        }
        for property in &self.dead {
            text.push_str("\n[[property]]\n");
            for (key, value) in
                [("namespace", &property.namespace), ("name", &property.name), ("xml", &property.xml)]
            {
                text.push_str(key);
                text.push_str(" = ");
                quote(&mut text, value);
                text.push('\n');
            }
        }
        text
    }

    pub(super) fn from_toml(bytes: &[u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(bytes).map_err(|_| Error::Corrupt(format!("{FILE} is not UTF-8")))?;
        toml::from_str(text).map_err(|error| Error::Corrupt(format!("{FILE}: {error}")))
    }
}

/// Appends a TOML basic string.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04X}", u32::from(control));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in proptest::collection::vec(".*", 5), dead in any::<bool>()) {
            let [displayname, description, timezone, component, xml] = <[String; 5]>::try_from(texts).unwrap();
            let properties = CollectionProperties {
                displayname: Some(displayname.clone()),
                description: Some(description),
                timezone: Some(timezone),
                components: vec![component, "VEVENT".into()],
                transparent: dead,
                dead: if dead {
                    vec![DeadProperty { namespace: "urn:x".into(), name: displayname, xml }; 2]
                } else {
                    Vec::new()
                },
                ..CollectionProperties::default()
            };
            prop_assert_eq!(CollectionProperties::from_toml(properties.to_toml().as_bytes()).unwrap(), properties);
        }
    }
}
