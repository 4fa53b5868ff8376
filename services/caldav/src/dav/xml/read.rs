//! Request bodies: bytes in, a bounded tree of elements out.
//!
//! A request is small, so a tree is the simplest thing that its readers can walk. Everything that could make it large is
//! limited here: depth, elements, attributes. Document type declarations are refused (RFC 4918, section 20.6), so there
//! are no entities but the five that XML predefines.

use core::fmt;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::name::Name;
use super::write::Writer;

/// How deep elements may nest. The deepest legal request (a calendar-query with nested filters and a partial
/// calendar-data) needs twelve; properties of clients' own making rarely five.
const MAX_DEPTH: usize = 32;
/// How many elements a body may have: a multiget of ten thousand hrefs with its properties, and no more.
const MAX_ELEMENTS: usize = 12_000;
/// How many attributes an element may have; the richest legal one (`calendar-data`) has two besides namespaces.
const MAX_ATTRIBUTES: usize = 24;
/// How many namespace declarations may be in force at once.
const MAX_NAMESPACES: usize = 128;

/// Why a body was not taken: the peer's fault, each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XmlError {
    /// Not UTF-8.
    Encoding,
    /// Not well-formed, or a name with a prefix that is not bound.
    Malformed,
    /// Well-formed, but past a limit of this service.
    TooLarge,
    /// A document type declaration, or a reference to an entity that only one could have declared.
    DocumentType,
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the body is not UTF-8",
            Self::Malformed => "the body is not well-formed XML with namespaces",
            Self::TooLarge => {
                "the XML body nests too deeply or has too many elements, attributes or namespaces"
            }
            Self::DocumentType => "document type declarations and entities are not accepted",
        })
    }
}

/// An element with everything in it. Comments and processing instructions are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name.
    pub(crate) name: Name,
    /// The prefix it was written with, empty for none; kept because RFC 4918, section 4.3, asks that dead properties
    /// keep theirs.
    pub(crate) prefix: String,
    /// Its attributes without namespace declarations.
    pub(crate) attributes: Vec<Attribute>,
    /// What is inside, in order.
    pub(crate) content: Vec<Content>,
}

/// An attribute, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// Its name; in no namespace unless it has a prefix.
    pub(crate) name: Name,
    /// The prefix it was written with.
    pub(crate) prefix: String,
    /// Its value.
    pub(crate) value: String,
}

/// What an element holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An element.
    Element(Element),
    /// Character data, unescaped.
    Text(String),
}

/// Reads a body into its root element.
pub(crate) fn parse(body: &[u8]) -> Result<Element, XmlError> {
    let text = core::str::from_utf8(body).map_err(|_| XmlError::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = NsReader::from_str(text);
    reader.resolver_mut().set_max_namespace_bindings(MAX_NAMESPACES);
    let mut tree = Tree { open: Vec::new(), elements: 0, root: None };
    loop {
        match reader.read_event().map_err(|error| of_reader(&error))? {
            Event::Start(start) => {
                let element = element(&reader, &start)?;
                tree.start(element)?;
            }
            Event::Empty(start) => {
                let element = element(&reader, &start)?;
                tree.start(element)?;
                tree.end()?;
            }
            Event::End(_) => tree.end()?,
            Event::Text(text) => tree.text(&text.xml10_content())?,
            Event::CData(data) => tree.text(&data.xml10_content())?,
            Event::GeneralRef(reference) => {
                if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
                    tree.text(character.encode_utf8(&mut [0; 4]))?;
                } else {
                    tree.text(resolve_predefined_entity(&reference).ok_or(XmlError::DocumentType)?)?;
                }
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return tree.finish(),
        }
    }
}

fn of_reader(error: &quick_xml::Error) -> XmlError {
    match error {
        quick_xml::Error::Namespace(quick_xml::name::NamespaceError::TooManyBindings(_)) => {
            XmlError::TooLarge
        }
        _ => XmlError::Malformed,
    }
}

/// The elements that are open, outermost first.
struct Tree {
    open: Vec<Element>,
    elements: usize,
    root: Option<Element>,
}

impl Tree {
    fn start(&mut self, element: Element) -> Result<(), XmlError> {
        self.elements += 1;
        if self.open.len() >= MAX_DEPTH || self.elements > MAX_ELEMENTS {
            return Err(XmlError::TooLarge);
        }
        if self.root.is_some() {
            return Err(XmlError::Malformed);
        }
        self.open.push(element);
        Ok(())
    }

    fn end(&mut self) -> Result<(), XmlError> {
        let element = self.open.pop().ok_or(XmlError::Malformed)?;
        match self.open.last_mut() {
            Some(parent) => parent.content.push(Content::Element(element)),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        let Some(parent) = self.open.last_mut() else {
            let blank = text.bytes().all(|byte| byte.is_ascii_whitespace());
            return if blank { Ok(()) } else { Err(XmlError::Malformed) };
        };
        // Text comes in pieces around references and CDATA sections; readers want it whole.
        if let Some(Content::Text(last)) = parent.content.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            parent.content.push(Content::Text(text.to_owned()));
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, XmlError> {
        if self.open.is_empty() { self.root.ok_or(XmlError::Malformed) } else { Err(XmlError::Malformed) }
    }
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let (namespace, local) = reader.resolver().resolve_element(start.name());
    let name = Name::new(&namespace_of(&namespace)?, valid(local.as_ref())?);
    let prefix = start.name().prefix().map_or("", |prefix| prefix.into_inner()).to_owned();
    let mut attributes = Vec::new();
    for (index, attribute) in start.attributes().enumerate() {
        if index >= MAX_ATTRIBUTES {
            return Err(XmlError::TooLarge);
        }
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| XmlError::Malformed)?
            .into_owned();
        attributes.push(Attribute {
            name: Name::new(&namespace_of(&namespace)?, valid(local.as_ref())?),
            prefix: attribute.key.prefix().map_or("", |prefix| prefix.into_inner()).to_owned(),
            value,
        });
    }
    Ok(Element { name, prefix, attributes, content: Vec::new() })
}

fn namespace_of<'n>(resolved: &'n ResolveResult<'_>) -> Result<std::borrow::Cow<'n, str>, XmlError> {
    match resolved {
        ResolveResult::Bound(namespace) => {
            quick_xml::escape::unescape(namespace.0).map_err(|_| XmlError::Malformed)
        }
        ResolveResult::Unbound => Ok("".into()),
        ResolveResult::Unknown(_) => Err(XmlError::Malformed),
    }
}

/// The reader takes anything up to white space for a name; what is kept and written again must be one. The check is
/// the ASCII part of XML 1.0, production 5; beyond ASCII all is allowed.
fn valid(local: &str) -> Result<&str, XmlError> {
    let first = local.chars().next().ok_or(XmlError::Malformed)?;
    let start = first.is_ascii_alphabetic() || first == '_' || !first.is_ascii();
    let rest =
        local.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') || !c.is_ascii());
    if start && rest { Ok(local) } else { Err(XmlError::Malformed) }
}

impl Element {
    /// The elements directly inside.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Self> {
        self.content.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    /// The first element directly inside with this name.
    pub(crate) fn child(&self, namespace: &str, local: &str) -> Option<&Self> {
        self.children().find(|child| child.name.is(namespace, local))
    }

    /// The attribute with this name and no namespace.
    pub(crate) fn attribute(&self, local: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.name.is("", local)).map(|a| a.value.as_str())
    }

    /// The character data directly inside, put together.
    pub(crate) fn text(&self) -> String {
        let mut whole = String::new();
        for content in &self.content {
            if let Content::Text(text) = content {
                whole.push_str(text);
            }
        }
        whole
    }

    /// The `xml:lang` of this element, if it has one.
    pub(crate) fn language(&self) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name.is("http://www.w3.org/XML/1998/namespace", "lang"))
            .map(|attribute| attribute.value.as_str())
    }

    /// The element as XML that stands by itself: every prefix it uses is declared inside it. `language` is the
    /// `xml:lang` in scope where it stood (RFC 4918, section 4.3), empty for none.
    pub(crate) fn to_xml(&self, language: &str) -> String {
        let mut writer = Writer::fragment();
        self.write(&mut writer, &mut Vec::new(), language);
        writer.into_string()
    }

    fn write<'a>(&'a self, writer: &mut Writer, scope: &mut Vec<(&'a str, &'a str)>, language: &str) {
        let outer = scope.len();
        writer.raw("<");
        self.write_name(writer);
        declare(writer, scope, &self.prefix, &self.name.namespace);
        for attribute in &self.attributes {
            if !attribute.prefix.is_empty() && attribute.prefix != "xml" {
                declare(writer, scope, &attribute.prefix, &attribute.name.namespace);
            }
            writer.raw(" ");
            if !attribute.prefix.is_empty() {
                writer.raw(&attribute.prefix);
                writer.raw(":");
            }
            writer.raw(&attribute.name.local);
            writer.raw("=\"");
            writer.attribute_text(&attribute.value);
            writer.raw("\"");
        }
        if !language.is_empty() && self.language().is_none() {
            writer.raw(" xml:lang=\"");
            writer.attribute_text(language);
            writer.raw("\"");
        }
        if self.content.is_empty() {
            writer.raw("/>");
        } else {
            writer.raw(">");
            for content in &self.content {
                match content {
                    Content::Element(element) => element.write(writer, scope, ""),
                    Content::Text(text) => writer.text(text),
                }
            }
            writer.raw("</");
            self.write_name(writer);
            writer.raw(">");
        }
        scope.truncate(outer);
    }

    fn write_name(&self, writer: &mut Writer) {
        if !self.prefix.is_empty() {
            writer.raw(&self.prefix);
            writer.raw(":");
        }
        writer.raw(&self.name.local);
    }
}

/// Declares `prefix` unless it already means `namespace` in `scope`. The fragment may be put anywhere, so the default
/// namespace is declared even when it is none.
fn declare<'a>(
    writer: &mut Writer,
    scope: &mut Vec<(&'a str, &'a str)>,
    prefix: &'a str,
    namespace: &'a str,
) {
    let bound = scope.iter().rev().find(|(bound, _)| *bound == prefix).map(|(_, namespace)| *namespace);
    if bound == Some(namespace) || prefix == "xml" {
        return;
    }
    scope.push((prefix, namespace));
    writer.raw(" xmlns");
    if !prefix.is_empty() {
        writer.raw(":");
        writer.raw(prefix);
    }
    writer.raw("=\"");
    writer.attribute_text(namespace);
    writer.raw("\"");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dav::xml::DAV;

    #[test]
    fn reads_names_text_and_attributes() {
        let root = parse(
            b"<?xml version=\"1.0\"?><D:a xmlns:D=\"DAV:\" x=\"1 &lt; 2\"><b xmlns=\"urn:b\">t&amp;<![CDATA[<u>]]>&#x21;</b><D:c/></D:a>\n",
        )
        .unwrap();
        assert!(root.name.is(DAV, "a"));
        assert_eq!(root.attribute("x"), Some("1 < 2"));
        assert_eq!(root.child("urn:b", "b").unwrap().text(), "t&<u>!");
        assert!(root.child(DAV, "c").unwrap().content.is_empty());
    }

    #[test]
    fn refuses_what_is_not_well_formed() {
        for body in [
            "",
            "   ",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<p:a/>",
            "<a>&nbsp;</a>x",
            "<a x=1/>",
            "<a><?x",
            "<1/>",
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:?}");
        }
        assert_eq!(parse(b"<a>\xff</a>"), Err(XmlError::Encoding));
    }

    #[test]
    fn refuses_document_types_and_entities() {
        let bomb = b"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>";
        assert_eq!(parse(bomb), Err(XmlError::DocumentType));
        assert_eq!(parse(b"<a>&x;</a>"), Err(XmlError::DocumentType));
    }

    #[test]
    fn refuses_what_is_too_large() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        assert_eq!(parse(deep.as_bytes()), Err(XmlError::TooLarge));
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert_eq!(parse(wide.as_bytes()), Err(XmlError::TooLarge));
        let mut attributes = String::from("<a");
        for index in 0..=MAX_ATTRIBUTES {
            attributes.push_str(&format!(" a{index}=\"\""));
        }
        attributes.push_str("/>");
        assert_eq!(parse(attributes.as_bytes()), Err(XmlError::TooLarge));
    }

    #[test]
    fn a_fragment_stands_by_itself_and_keeps_prefix_and_language() {
        let root = parse(
            b"<D:prop xmlns:D=\"DAV:\" xmlns:Z=\"urn:z?a&amp;b\" xml:lang=\"de\"><Z:p q=\"&quot;\" Z:r=\"2\"><D:x>1 &lt; 2</D:x><y/></Z:p></D:prop>",
        )
        .unwrap();
        let property = root.child("urn:z?a&b", "p").unwrap();
        let xml = property.to_xml(root.language().unwrap_or_default());
        assert_eq!(
            xml,
            "<Z:p xmlns:Z=\"urn:z?a&amp;b\" q=\"&quot;\" Z:r=\"2\" xml:lang=\"de\"><D:x xmlns:D=\"DAV:\">1 &lt; 2</D:x><y xmlns=\"\"/></Z:p>"
        );
        let again = parse(xml.as_bytes()).unwrap();
        assert_eq!(again.content, property.content);
    }

    proptest! {
        #[test]
        fn never_panics_and_what_it_takes_it_can_write(body in "[<>/a-c:=\"' &;#x0-9!\\[\\]?-]{0,64}") {
            if let Ok(root) = parse(body.as_bytes()) {
                let xml = root.to_xml("");
                prop_assert_eq!(parse(xml.as_bytes()).unwrap(), root, "{}", xml);
            }
        }

        #[test]
        fn any_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&body);
        }
    }
}
