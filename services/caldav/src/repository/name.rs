//! Names of collections and resources, and where a resource lies in its collection.

use gix_hash::Kind;
use gix_object::bstr::ByteSlice;
use gix_validate::path::component::{Error as ComponentError, Options};

use super::NameError;

/// Longest name of a collection or resource in bytes: what file systems can check out.
pub const MAX_NAME_BYTES: usize = 255;

/// Whether a resource can have this name (one segment of a URL, percent-decoded).
///
/// # Errors
/// See [`NameError`].
pub fn check_resource_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    // Control characters would let a name forge lines of the commit message, and NUL ends a name in a tree.
    if name.chars().any(|c| c == '/' || c.is_control()) {
        return Err(NameError::Character);
    }
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    match gix_validate::path::component(name.as_bytes().as_bstr(), None, options) {
        Ok(_) => {}
        Err(ComponentError::PathSeparator) => return Err(NameError::Character),
        Err(_) => return Err(NameError::Reserved),
    }
    // git reads files of these names (and `git fsck` their content), wherever they lie.
    if name.len() >= 4 && name.is_char_boundary(4) && name[..4].eq_ignore_ascii_case(".git") {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Whether a collection can have this name: the rules of resources.
///
/// # Errors
/// See [`NameError`].
pub fn check_collection_name(name: &str) -> Result<(), NameError> {
    check_resource_name(name)
}

/// The two folders above a resource in its collection: the first two hexadecimal digits of the SHA-1 of its name.
pub(super) fn fan_out(name: &str) -> [&'static str; 2] {
    const DIGITS: [&str; 16] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];
    let mut hasher = gix_hash::hasher(Kind::Sha1);
    hasher.update(name.as_bytes());
    // The only failure is a detected collision attack on SHA-1; any fixed place serves such a name.
    let byte = hasher.try_finalize().map_or(0, |id| id.first_byte());
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_or_paths_cannot_hold_are_refused() {
        for (name, error) in [
            ("", NameError::Empty),
            (".", NameError::Reserved),
            ("..", NameError::Reserved),
            (".git", NameError::Reserved),
            (".GIT", NameError::Reserved),
            ("git~1", NameError::Reserved),
            (".g\u{200c}it", NameError::Reserved),
            (".gitmodules", NameError::Reserved),
            ("a/b", NameError::Character),
            ("a\0b", NameError::Character),
            ("a\nb", NameError::Character),
        ] {
            assert_eq!(check_resource_name(name), Err(error), "{name:?}");
        }
        assert_eq!(check_resource_name(&"x".repeat(256)), Err(NameError::TooLong));
        for name in ["a.ics", "Ünï.ics", "a b@c:d.ics", "...", "collection.toml", &"x".repeat(255)] {
            assert_eq!(check_resource_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn the_place_of_a_resource_is_the_sha1_of_its_name() {
        // printf %s meeting.ics | sha1sum
        assert_eq!(fan_out("abc"), ["a", "9"]); // a9993e36... is the first test vector of FIPS 180
    }
}
