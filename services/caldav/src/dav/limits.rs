//! Every limit of the protocol layer, with its reason. The XML reader's own stand beside it in [`super::xml`].

use crate::repository::MAX_RESOURCE_BYTES;

/// Limits that the configuration may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest calendar object or card in bytes (`max-resource-size`).
    pub resource_bytes: usize,
    /// Largest request body in bytes. A multiget of ten thousand hrefs has about one MiB.
    pub request_bytes: usize,
    /// Most resources that one report gives, and hrefs that a multiget may name (`number-of-matches-within-limits`).
    pub results: usize,
    /// Most bytes of an answer. A report that would be larger is refused like one with too many results: the answer is
    /// built in memory, and several are at once.
    pub response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resource_bytes: MAX_RESOURCE_BYTES,
            request_bytes: 2 * 1024 * 1024,
            results: 20_000,
            response_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// The same for an image with this much memory, in bytes: an answer has at most an eighth of it. While it is being
    /// written it may take twice its size, and others are held that are not yet sent.
    #[must_use]
    pub fn within_memory(mut self, memory: usize) -> Self {
        self.response_bytes = self.response_bytes.min(memory / 8);
        self
    }
}

/// Most properties that one request may ask for or change.
pub(crate) const MAX_PROPERTIES: usize = 256;
/// Longest value of a property kept for people: a name, a description, a colour.
pub(crate) const MAX_PROPERTY_TEXT: usize = 16 * 1024;
/// How deep `expand-property` may follow hrefs. Nothing here leads further than user to home to collection.
pub(crate) const MAX_EXPANSION: usize = 4;
