//! The lines that iCalendar and vCard are made of, and the components that BEGIN and END make of them.
//!
//! Before working on this folder read RFC 5545 clause 3.1, RFC 6350 clause 3 and RFC 6868.
//!
//! Nothing here changes bytes: a parsed object borrows from the client's text and is used for validation, the index and
//! filters; what is stored and given back is the client's own. The parser is tolerant where clients in the field err
//! without doubt about the meaning (line feeds alone, blank lines, lower case, UTF-8 split by a fold), and strict where
//! two readers could understand different things (END that closes nothing, a line without a value).
//!
//! Why not the `ical` crate's tokeniser: its unfolding drops a space at a fold, ends silently at UTF-8 split by a fold,
//! and its lines lose a colon at the beginning of a value, split wrongly after ten parameter values and copy every
//! part. Where `ical` is right, this parser agrees with it: a test compares them.

pub mod matching;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::fmt;

pub use write::Writer;

/// Deepest nesting of components: VCALENDAR, VTIMEZONE or VEVENT, their parts, and room for what may come.
pub const MAX_DEPTH: usize = 8;

/// Most lines of an object after unfolding: bounds what parsing an object of the largest size allocates (48 bytes a
/// line). An event with a thousand exceptions of thirty lines fits.
pub const MAX_LINES: usize = 40_000;

/// Why a text is not made of components. All are the peer's fault; `line` counts from 1 after unfolding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The bytes are not UTF-8 after unfolding.
    NotUtf8,
    /// A line has no name, or no colon after it.
    Line {
        /// Which line.
        line: usize,
    },
    /// A line outside of every component.
    Outside {
        /// Which line.
        line: usize,
    },
    /// END of a component that is not the innermost open one, or a missing END.
    End {
        /// Which line.
        line: usize,
        /// The component that is open.
        expected: String,
    },
    /// Deeper than [`MAX_DEPTH`] or longer than [`MAX_LINES`].
    TooLarge,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the text is not UTF-8"),
            Self::Line { line } => write!(f, "line {line} is not NAME:VALUE"),
            Self::Outside { line } => write!(f, "line {line} is outside of every component"),
            Self::End { line, expected } => write!(f, "line {line} should end {expected}"),
            Self::TooLarge => f.write_str("too many lines or too deeply nested"),
        }
    }
}

impl std::error::Error for ParseError {}

/// A component: what lies between BEGIN and END.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Its name as written.
    pub name: &'a str,
    /// Its properties, in order.
    pub properties: Vec<Property<'a>>,
    /// Its components, in order.
    pub components: Vec<Component<'a>>,
}

/// A line: a property with its parameters and value, all as written but unfolded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// The name as written; in vCards it may begin with a group and a dot.
    pub name: &'a str,
    /// The parameters, without the semicolon before them.
    pub parameters: &'a str,
    /// The value, still escaped.
    pub value: &'a str,
}

impl<'a> Component<'a> {
    /// Whether this is the component's name, in any case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The first property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Property<'a>> {
        self.properties.iter().find(|property| property.is(name))
    }

    /// All properties of this name.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Property<'a>> {
        self.properties.iter().filter(move |property| property.is(name))
    }
}

impl<'a> Property<'a> {
    /// Whether this is the property's name, in any case and without group.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.base_name().eq_ignore_ascii_case(name)
    }

    /// The name without the group that a vCard may put before it (RFC 6350 clause 3.3).
    #[must_use]
    pub fn base_name(&self) -> &'a str {
        self.name.rsplit_once('.').map_or(self.name, |(_, name)| name)
    }

    /// The parameters in order.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'a> {
        Parameters { rest: self.parameters }
    }

    /// The first value of the parameter of this name, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        self.parameters().find(|parameter| parameter.name.eq_ignore_ascii_case(name))?.values().next()
    }

    /// The value as text, unescaped (RFC 5545 clause 3.3.11).
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        unescape(self.value)
    }
}

/// One parameter of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its name as written.
    pub name: &'a str,
    /// Its values as written, with quotes and commas.
    pub raw: &'a str,
}

impl<'a> Parameter<'a> {
    /// The values, without quotes and with the escapes of RFC 6868 undone.
    pub fn values(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        let mut rest = Some(self.raw);
        std::iter::from_fn(move || {
            let text = rest?;
            let end = find_unquoted(text, |byte| byte == b',');
            rest = end.map(|end| &text[end + 1..]);
            let value = &text[..end.unwrap_or(text.len())];
            let value =
                value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value));
            Some(decode_carets(value))
        })
    }
}

/// Iterates over the parameters of a property.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Parameter<'a>;

    fn next(&mut self) -> Option<Parameter<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let end = find_unquoted(self.rest, |byte| byte == b';').unwrap_or(self.rest.len());
            let parameter = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if parameter.is_empty() {
                continue;
            }
            // `TEL;HOME:` of vCard 2.1 means TYPE=HOME.
            let (name, raw) = parameter.split_once('=').unwrap_or(("TYPE", parameter));
            return Some(Parameter { name, raw });
        }
    }
}

/// The text of an object: unfolded and checked to be UTF-8. Borrows where nothing is folded.
///
/// # Errors
/// [`ParseError::NotUtf8`].
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match unfold(bytes) {
        Cow::Borrowed(bytes) => {
            std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| ParseError::NotUtf8)
        }
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| ParseError::NotUtf8),
    }
}

/// Removes each line break with the one space or tab after it (RFC 5545 clause 3.1), before anything is decoded, so a
/// fold may split a character.
fn unfold(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_fold = |feed: usize| matches!(bytes.get(feed + 1), Some(b' ' | b'\t'));
    let mut feeds =
        (0..bytes.len()).filter(|&position| bytes[position] == b'\n' && is_fold(position)).peekable();
    if feeds.peek().is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut unfolded = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for feed in feeds {
        let line = &bytes[from..feed];
        unfolded.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        from = feed + 2;
    }
    unfolded.extend_from_slice(&bytes[from..]);
    Cow::Owned(unfolded)
}

/// Parses the components of a decoded text.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(text: &str) -> Result<Vec<Component<'_>>, ParseError> {
    let mut done: Vec<Component<'_>> = Vec::new();
    let mut open: Vec<Component<'_>> = Vec::new();
    let mut number = 0;
    for line in text.split('\n') {
        number += 1;
        let line = line.trim_end_matches('\r');
        if line.trim_ascii().is_empty() {
            continue;
        }
        if number > MAX_LINES {
            return Err(ParseError::TooLarge);
        }
        let property = property(line).ok_or(ParseError::Line { line: number })?;
        if property.name.eq_ignore_ascii_case("BEGIN") {
            if open.len() == MAX_DEPTH {
                return Err(ParseError::TooLarge);
            }
            let name = property.value.trim_ascii();
            open.push(Component { name, properties: Vec::new(), components: Vec::new() });
        } else if property.name.eq_ignore_ascii_case("END") {
            let component = open.pop().ok_or(ParseError::Outside { line: number })?;
            if !component.is(property.value.trim_ascii()) {
                return Err(ParseError::End { line: number, expected: component.name.to_owned() });
            }
            open.last_mut().map_or(&mut done, |parent| &mut parent.components).push(component);
        } else {
            let component = open.last_mut().ok_or(ParseError::Outside { line: number })?;
            component.properties.push(property);
        }
    }
    match open.pop() {
        Some(component) => Err(ParseError::End { line: number, expected: component.name.to_owned() }),
        None => Ok(done),
    }
}

/// Parses an unfolded line; `None` if it has no name or no value.
#[must_use]
pub fn property(line: &str) -> Option<Property<'_>> {
    let end = line.find([':', ';'])?;
    let name = &line[..end];
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=') {
        return None;
    }
    let rest = &line[end..];
    let Some(rest) = rest.strip_prefix(';') else {
        return Some(Property { name, parameters: "", value: &rest[1..] });
    };
    let colon = find_unquoted(rest, |byte| byte == b':')?;
    Some(Property { name, parameters: &rest[..colon], value: &rest[colon + 1..] })
}

/// Where the first byte that is `wanted` (ASCII) lies outside of double quotes.
fn find_unquoted(text: &str, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        !quoted && wanted(byte)
    })
}

/// Undoes the escapes of text values: `\n`, `\N`, `\,`, `\;`, `\:` and `\\`.
#[must_use]
pub fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => text.push('\n'),
                Some(other @ (',' | ';' | ':' | '\\' | '"')) => text.push(other),
                Some(other) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

/// Splits a value at unescaped separators (a list of texts, or the parts of a structured vCard value).
pub fn split_unescaped(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut escaped = false;
        let end = text.bytes().position(|byte| {
            let ends = byte == separator && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// Undoes `^n`, `^'` and `^^` of parameter values (RFC 6868).
fn decode_carets(value: &str) -> Cow<'_, str> {
    if !value.contains('^') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        let decoded = match (character, characters.peek()) {
            ('^', Some('n')) => '\n',
            ('^', Some('\'')) => '"',
            ('^', Some('^')) => '^',
            (other, _) => {
                text.push(other);
                continue;
            }
        };
        characters.next();
        text.push(decoded);
    }
    Cow::Owned(text)
}
