//! Writing lines: for what the server makes itself (expansions, partial objects, free-busy).

use super::{Component, Property};

/// Longest line in bytes, without its break (RFC 5545 clause 3.1).
const LINE: usize = 75;

/// Gathers lines, folded and ended by CRLF.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// The text written.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    /// A whole component, as it was.
    pub fn component(&mut self, component: &Component<'_>) {
        self.line(&["BEGIN:", component.name]);
        component.properties.iter().for_each(|property| self.property(property));
        component.components.iter().for_each(|component| self.component(component));
        self.line(&["END:", component.name]);
    }

    /// A property, as it was.
    pub fn property(&mut self, property: &Property<'_>) {
        if property.parameters.is_empty() {
            self.line(&[property.name, ":", property.value]);
        } else {
            self.line(&[property.name, ";", property.parameters, ":", property.value]);
        }
    }

    /// A property without its value (`novalue` of RFC 4791 clause 9.6.4).
    pub fn property_without_value(&mut self, property: &Property<'_>) {
        self.property(&Property { value: "", ..*property });
    }

    /// A line made of `parts`, which must not have line breaks in them.
    pub fn line(&mut self, parts: &[&str]) {
        let mut room = LINE;
        for part in parts {
            for character in part.chars() {
                let length = character.len_utf8();
                if length > room {
                    self.text.push_str("\r\n ");
                    room = LINE - 1;
                }
                self.text.push(character);
                room -= length;
            }
        }
        self.text.push_str("\r\n");
    }
}
