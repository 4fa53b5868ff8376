//! Conditional requests: `If-Match`, `If-None-Match` (RFC 9110, section 13) and the part of `If` (RFC 4918, section
//! 10.4) that a server without locks can judge.

use http::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderName, StatusCode};

use super::error::Failure;
use super::path::Path;

/// The state of a resource that conditions are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State<'a> {
    /// Whether there is one.
    pub(crate) exists: bool,
    /// Its strong entity tag without quotes; none for a collection.
    pub(crate) etag: Option<&'a str>,
}

/// How the conditions of a request came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Perform,
    /// The client has it already: 304 for GET and HEAD.
    NotModified,
}

/// Judges the conditions of a request for the resource at `path` in the order of RFC 9110, section 13.2.2. `safe` says
/// that the method is GET or HEAD.
///
/// # Errors
///
/// 412 when a condition does not hold, 400 when one cannot be read.
pub(crate) fn check(
    headers: &HeaderMap,
    path: &Path,
    state: State<'_>,
    safe: bool,
) -> Result<Verdict, Failure> {
    if headers.contains_key("if") && !if_header(headers, path, state)? {
        return Err(failed());
    }
    // If-Match compares strongly: a weak tag never matches.
    if let Some(matched) =
        tags(headers, &IF_MATCH, |tag, weak| !weak && state.etag == Some(tag), state.exists)?
        && !matched
    {
        return Err(failed());
    }
    // If-None-Match compares weakly.
    if let Some(matched) = tags(headers, &IF_NONE_MATCH, |tag, _| state.etag == Some(tag), state.exists)?
        && matched
    {
        return if safe { Ok(Verdict::NotModified) } else { Err(failed()) };
    }
    Ok(Verdict::Perform)
}

const fn failed() -> Failure {
    Failure::status(StatusCode::PRECONDITION_FAILED)
}

fn bad() -> Failure {
    Failure::status(StatusCode::BAD_REQUEST).because("a conditional header cannot be read")
}

/// Whether any tag in the header matches; `None` without the header. `*` matches what exists.
fn tags(
    headers: &HeaderMap,
    name: &HeaderName,
    matches: impl Fn(&str, bool) -> bool,
    exists: bool,
) -> Result<Option<bool>, Failure> {
    let mut matched = None;
    for value in headers.get_all(name) {
        let mut rest = value.to_str().map_err(|_| bad())?.trim();
        matched.get_or_insert(false);
        if rest == "*" {
            matched = Some(exists);
            continue;
        }
        while !rest.is_empty() {
            let (tag, weak, after) = entity_tag(rest)?;
            if matches(tag, weak) {
                matched = Some(true);
            }
            rest = after.trim_start();
            if let Some(next) = rest.strip_prefix(',') {
                rest = next.trim_start();
            } else if !rest.is_empty() {
                return Err(bad());
            }
        }
    }
    Ok(matched)
}

/// Reads one entity tag: the tag, whether it is weak, the rest. A tag without its quotes is taken too, up to a comma: some
/// clients send what they were given in `getetag` stripped.
fn entity_tag(text: &str) -> Result<(&str, bool, &str), Failure> {
    let (weak, text) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
    if let Some(opened) = text.strip_prefix('"') {
        let (tag, rest) = opened.split_once('"').ok_or_else(bad)?;
        return Ok((tag, weak, rest));
    }
    let end = text.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(text.len());
    if end == 0 { Err(bad()) } else { Ok((&text[..end], weak, &text[end..])) }
}

/// Evaluates `If`: true when some list that is about this resource has only true conditions. A state token is never
/// true, since there are no locks; lists tagged with other resources are not about this request's effect and false.
fn if_header(headers: &HeaderMap, path: &Path, state: State<'_>) -> Result<bool, Failure> {
    let mut lists = 0;
    let mut holds = false;
    for value in headers.get_all("if") {
        let mut rest = value.to_str().map_err(|_| bad())?.trim_start();
        let mut about_this = true;
        while !rest.is_empty() {
            if let Some(opened) = rest.strip_prefix('<') {
                let (uri, after) = opened.split_once('>').ok_or_else(bad)?;
                about_this = Path::parse_href(uri).as_ref() == Ok(path);
                rest = after.trim_start();
                continue;
            }
            let (list, after) = list(rest.strip_prefix('(').ok_or_else(bad)?, state)?;
            lists += 1;
            holds |= list && about_this;
            rest = after.trim_start();
        }
    }
    if lists == 0 { Err(bad()) } else { Ok(holds) }
}

/// Evaluates what stands between the parentheses: whether all of it holds, and the rest of the header.
fn list<'h>(mut rest: &'h str, state: State<'_>) -> Result<(bool, &'h str), Failure> {
    let mut all = true;
    let mut conditions = 0;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(')') {
            return if conditions > 0 { Ok((all, after)) } else { Err(bad()) };
        }
        let negated = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("not"));
        if negated {
            rest = rest[3..].trim_start();
        }
        let holds = if let Some(opened) = rest.strip_prefix('<') {
            rest = opened.split_once('>').ok_or_else(bad)?.1;
            false
        } else {
            let (tag, weak, after) = entity_tag(rest.strip_prefix('[').ok_or_else(bad)?)?;
            rest = after.trim_start().strip_prefix(']').ok_or_else(bad)?;
            !weak && state.etag == Some(tag)
        };
        all &= holds != negated;
        conditions += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THERE: State<'_> = State { exists: true, etag: Some("a1") };
    const NOWHERE: State<'_> = State { exists: false, etag: None };

    fn judge(name: &'static str, value: &str, state: State<'_>, safe: bool) -> Result<Verdict, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        check(&headers, &Path::Principal("alice".into()), state, safe).map_err(|failure| failure.status)
    }

    #[test]
    fn if_match() {
        for value in ["\"a1\"", "*", "\"x\", \"a1\"", "a1"] {
            assert_eq!(judge("if-match", value, THERE, false), Ok(Verdict::Perform), "{value}");
            assert_eq!(
                judge("if-match", value, NOWHERE, false),
                Err(StatusCode::PRECONDITION_FAILED),
                "{value}"
            );
        }
        for value in ["\"x\"", "W/\"a1\"", ""] {
            assert_eq!(
                judge("if-match", value, THERE, false),
                Err(StatusCode::PRECONDITION_FAILED),
                "{value}"
            );
        }
        assert_eq!(judge("if-match", "\"a1", THERE, false), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn if_none_match() {
        for value in ["\"a1\"", "*", "W/\"a1\""] {
            assert_eq!(judge("if-none-match", value, THERE, false), Err(StatusCode::PRECONDITION_FAILED));
            assert_eq!(judge("if-none-match", value, THERE, true), Ok(Verdict::NotModified));
            assert_eq!(judge("if-none-match", value, NOWHERE, false), Ok(Verdict::Perform));
        }
        assert_eq!(judge("if-none-match", "\"x\"", THERE, false), Ok(Verdict::Perform));
    }

    #[test]
    fn if_header_of_rfc_4918() {
        for value in [
            "([\"a1\"])",
            "(Not <DAV:no-lock>)",
            "(<urn:x>) ([\"a1\"])",
            "</principals/alice/> ([\"a1\"] Not <urn:x>)",
            "<http://h/principals/alice> (Not [\"b\"])",
        ] {
            assert_eq!(judge("if", value, THERE, false), Ok(Verdict::Perform), "{value}");
        }
        for value in ["(<urn:x>)", "([\"b\"])", "([\"a1\"] <urn:x>)", "</principals/bob/> ([\"a1\"])"] {
            assert_eq!(judge("if", value, THERE, false), Err(StatusCode::PRECONDITION_FAILED), "{value}");
        }
        for value in ["", "()", "(x)", "([\"a1\"", "<x"] {
            assert_eq!(judge("if", value, THERE, false), Err(StatusCode::BAD_REQUEST), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_header_never_panics(value in "[\\[\\]<>()\"W/*, notNa1é]{0,24}") {
            let mut headers = HeaderMap::new();
            for name in ["if", "if-match", "if-none-match"] {
                if let Ok(value) = http::HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            let _ = check(&headers, &Path::Root, THERE, false);
        }
    }
}
