//! The console: lines of text to whoever started the image.

/// A place for text. Writing never blocks for long and never fails: what cannot be written is lost.
pub trait Console {
    /// Writes bytes (UTF-8 text, lines ended by `\n`).
    fn write(&self, text: &[u8]);
}
