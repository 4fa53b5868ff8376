//! Answers: one buffer, written once from front to back.
//!
//! Names are written with fixed prefixes that the root declares, so an answer over ten thousand events is string
//! copies and nothing else. Text is escaped in runs: what needs no escape is copied whole.

use super::name::{APPLE, CALDAV, CALENDAR_SERVER, CARDDAV, DAV, Name};

/// What the root of every answer declares.
const DECLARATIONS: &str = concat!(
    " xmlns:D=\"DAV:\" xmlns:C=\"urn:ietf:params:xml:ns:caldav\" xmlns:CR=\"urn:ietf:params:xml:ns:carddav\"",
    " xmlns:CS=\"http://calendarserver.org/ns/\" xmlns:A=\"http://apple.com/ns/ical/\"",
);

/// An XML document being written.
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    /// Begins a document with the root element `D:local`.
    pub(crate) fn document(local: &str, capacity: usize) -> Self {
        let mut out = String::with_capacity(capacity.max(512));
        out.push_str("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:");
        out.push_str(local);
        out.push_str(DECLARATIONS);
        out.push('>');
        Self { out }
    }

    /// Begins a piece of a document.
    pub(crate) const fn fragment() -> Self {
        Self { out: String::new() }
    }

    /// Ends the root element `D:local` and gives the bytes.
    pub(crate) fn finish(mut self, local: &str) -> Vec<u8> {
        self.raw("</D:");
        self.raw(local);
        self.raw(">\n");
        self.out.into_bytes()
    }

    /// What was written.
    pub(crate) fn into_string(self) -> String {
        self.out
    }

    /// How many bytes were written.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Makes room for `more` bytes, so that they are written without growing in between.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.out.reserve(more);
    }

    /// Takes back everything past `len` bytes, which must be a former [`Writer::len`].
    pub(crate) fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// Markup, as it is.
    pub(crate) fn raw(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Character data.
    pub(crate) fn text(&mut self, text: &str) {
        escape_text(text, &mut self.out);
    }

    /// A number as character data.
    pub(crate) fn number(&mut self, number: impl core::fmt::Display) {
        use core::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{number}");
    }

    /// The value of an attribute, without its quotes.
    pub(crate) fn attribute_text(&mut self, text: &str) {
        escape_attribute(text, &mut self.out);
    }

    /// `<tag>text</tag>`; `tag` with the prefix of [`DECLARATIONS`].
    pub(crate) fn element(&mut self, tag: &str, text: &str) {
        self.open(tag);
        self.text(text);
        self.close(tag);
    }

    /// `<D:href>path</D:href>`; `path` is already percent-encoded.
    pub(crate) fn href(&mut self, path: &str) {
        self.element("D:href", path);
    }

    /// `<tag>`.
    pub(crate) fn open(&mut self, tag: &str) {
        self.out.push('<');
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// `</tag>`.
    pub(crate) fn close(&mut self, tag: &str) {
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// `<tag/>`.
    pub(crate) fn empty_tag(&mut self, tag: &str) {
        self.out.push('<');
        self.out.push_str(tag);
        self.out.push_str("/>");
    }

    /// An empty element with this name, whatever its namespace.
    pub(crate) fn empty(&mut self, name: &Name) {
        self.out.push('<');
        match prefix_of(&name.namespace) {
            Some(prefix) => {
                self.out.push_str(prefix);
                self.out.push(':');
                self.out.push_str(&name.local);
            }
            None => {
                self.out.push_str(&name.local);
                self.out.push_str(" xmlns=\"");
                self.attribute_text(&name.namespace);
                self.out.push('"');
            }
        }
        self.out.push_str("/>");
    }
}

fn prefix_of(namespace: &str) -> Option<&'static str> {
    match namespace {
        DAV => Some("D"),
        CALDAV => Some("C"),
        CARDDAV => Some("CR"),
        CALENDAR_SERVER => Some("CS"),
        APPLE => Some("A"),
        _ => None,
    }
}

/// Escapes character data. A carriage return becomes a reference, since readers turn a bare one into a line feed (XML
/// 1.0, section 2.11) and calendar data would not come back byte for byte. Characters that XML cannot carry at all
/// become U+FFFD.
fn escape_text(text: &str, out: &mut String) {
    escape(text, out, |byte| matches!(byte, b'&' | b'<' | b'>'));
}

/// Escapes the value of an attribute that stands in double quotes. White space but the blank becomes references
/// because readers would turn it into blanks (XML 1.0, section 3.3.3).
fn escape_attribute(text: &str, out: &mut String) {
    escape(text, out, |byte| matches!(byte, b'&' | b'<' | b'>' | b'"' | b'\t' | b'\n'));
}

fn escape(text: &str, out: &mut String, special: impl Fn(u8) -> bool) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let replacement = match byte {
            b'&' if special(byte) => "&amp;",
            b'<' if special(byte) => "&lt;",
            b'>' if special(byte) => "&gt;",
            b'"' if special(byte) => "&quot;",
            b'\t' if special(byte) => "&#9;",
            b'\n' if special(byte) => "&#10;",
            b'\r' => "&#13;",
            0..=8 | 11 | 12 | 14..=31 => "\u{fffd}",
            // U+FFFE and U+FFFF.
            0xef if matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])) => "\u{fffd}",
            _ => {
                at += 1;
                continue;
            }
        };
        let width = if byte == 0xef { 3 } else { 1 };
        out.push_str(&text[copied..at]);
        out.push_str(replacement);
        at += width;
        copied = at;
    }
    out.push_str(&text[copied..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dav::xml::parse;
    use crate::dav::xml::read::Content;

    #[test]
    fn escapes_what_must_be_escaped() {
        let mut out = String::new();
        escape_text("a\r\n b<&>\"\u{0}\u{ffff}ü\u{ffef}", &mut out);
        assert_eq!(out, "a&#13;\n b&lt;&amp;&gt;\"\u{fffd}\u{fffd}ü\u{ffef}");
        out.clear();
        escape_attribute("\"\t\n", &mut out);
        assert_eq!(out, "&quot;&#9;&#10;");
    }

    #[test]
    fn names_get_their_prefix_or_a_declaration() {
        let mut writer = Writer::fragment();
        writer.empty(&Name::new(CALDAV, "calendar-data"));
        writer.empty(&Name::new("urn:x\"", "y"));
        assert_eq!(writer.into_string(), "<C:calendar-data/><y xmlns=\"urn:x&quot;\"/>");
    }

    proptest! {
        #[test]
        fn text_comes_back(text in "[\\PC\r\n\t<>&\"']{1,40}") {
            let mut out = String::from("<a b=\"");
            escape_attribute(&text, &mut out);
            out.push_str("\">");
            escape_text(&text, &mut out);
            out.push_str("</a>");
            let root = parse(out.as_bytes()).unwrap();
            let expected = text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
            prop_assert_eq!(root.attribute("b"), Some(expected.as_str()));
            prop_assert_eq!(root.content, vec![Content::Text(expected)]);
        }
    }
}
