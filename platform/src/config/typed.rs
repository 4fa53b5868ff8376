//! TOML into a service's own types. An error names file, line and key, and what would be right.

use std::fmt;

use serde::de::DeserializeOwned;

use super::nearest::nearest;

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationError {
    /// The file's name in the bundle.
    pub file: String,
    /// The line, counted from 1; absent where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ConfigurationError {
    /// An error about a whole file, or about what a service found wrong in it.
    #[must_use]
    pub fn new(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, message: message.into() }
    }
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// Reads `content` as TOML into `T`, which should have `#[serde(deny_unknown_fields)]`.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse<T: DeserializeOwned>(file: &str, content: &[u8]) -> Result<T, ConfigurationError> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigurationError { file: file.to_owned(), line: Some(line), message: "not UTF-8 text".to_owned() }
    })?;
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        let message = suggest(error.message().trim_end());
        ConfigurationError { file: file.to_owned(), line, message }
    })
}

/// Adds the nearest key to serde's "unknown field `plian`, expected one of `plain`, `user`".
fn suggest(message: &str) -> String {
    let message = message.replace('\n', "; ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message;
    }
    let Some(word) = quoted.next() else { return message };
    match nearest(word, quoted) {
        Some(near) => format!("{message} (did you mean `{near}`?)"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read into")]
    struct Example {
        #[serde(default)]
        plain: bool,
        port: Option<u16>,
    }

    fn error(text: &str) -> String {
        parse::<Example>("caldav.toml", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_line_key_and_what_would_be_right() {
        assert_eq!(
            error("port = 1\nplian = true"),
            "caldav.toml, line 2: unknown field `plian`, expected `plain` or `port` (did you mean `plain`?)"
        );
        assert_eq!(
            error("# comment\nplain = \"yes\""),
            "caldav.toml, line 2: invalid type: string \"yes\", expected a boolean"
        );
        assert!(error("plain = ").starts_with("caldav.toml, line 1: "));
        assert!(error("port = 70000").contains("line 1"));
        assert_eq!(
            parse::<Example>("f", b"a = 1\n\xff").unwrap_err().to_string(),
            "f, line 2: not UTF-8 text"
        );
    }
}
