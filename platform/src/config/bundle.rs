//! The configuration bundle: the files that an image is given at start.
//!
//! Read first: POSIX.1-2017, pax, "ustar Interchange Format". Archives by GNU tar and bsdtar are read as well as far as
//! regular files go; their long names are.

use std::collections::BTreeMap;
use std::fmt;

const BLOCK: usize = 512;
/// Longest bundle, in bytes: it is read into memory. Certificates, keys and users are some kilobytes.
pub const MAX_BUNDLE: usize = 16 << 20;
/// Most files in a bundle.
const MAX_FILES: usize = 1024;

/// The files of a bundle by their names, without a leading `./`.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    files: BTreeMap<String, Vec<u8>>,
}

/// Why a bundle could not be read. The fault is in what was given to the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The archive ends within this file, or within a header.
    Truncated(String),
    /// The header at this byte offset is damaged.
    Header(usize),
    /// More than 1,024 files.
    TooManyFiles,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(name) => write!(
                f,
                "configuration: the archive is truncated, it ends within {name}; pack it again with `tar -cf`"
            ),
            Self::Header(offset) => write!(
                f,
                "configuration: the archive is damaged at byte {offset}; pack it again with `tar -cf` (not compressed)"
            ),
            Self::TooManyFiles => write!(f, "configuration: more than {MAX_FILES} files"),
        }
    }
}

impl std::error::Error for BundleError {}

impl Bundle {
    /// Reads a tar archive; anything else is taken for the one TOML file of the service, `name`.
    ///
    /// # Errors
    /// When it is an archive, but not a whole one.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self, BundleError> {
        if bytes.get(257..262) == Some(b"ustar") {
            return Self::read_archive(bytes);
        }
        // A block device has zeroes after the file.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let files = BTreeMap::from([(name.to_owned(), bytes[..end].to_vec())]);
        Ok(Self { files })
    }

    /// A file's content.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Names and contents of all files, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    fn read_archive(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut files = BTreeMap::new();
        let mut offset = 0;
        // A name from a header of its own, for the next file.
        let mut long_name = None;
        loop {
            let header = bytes
                .get(offset..offset + BLOCK)
                .ok_or_else(|| BundleError::Truncated("a header".to_owned()))?;
            if header.iter().all(|byte| *byte == 0) {
                return Ok(Self { files });
            }
            let size = checked_size(header).ok_or(BundleError::Header(offset))?;
            let name = long_name.take().unwrap_or_else(|| header_name(header));
            let start = offset + BLOCK;
            let content = bytes
                .get(start..start.saturating_add(size))
                .ok_or_else(|| BundleError::Truncated(name.clone()))?;
            match header[156] {
                b'0' | 0 => {
                    if files.len() == MAX_FILES {
                        return Err(BundleError::TooManyFiles);
                    }
                    files.insert(name.trim_start_matches("./").to_owned(), content.to_vec());
                }
                b'L' => long_name = Some(text(content)),
                b'x' => long_name = pax_path(content),
                // Directories, links and the like are nothing that a service reads.
                _ => {}
            }
            offset = start + size.next_multiple_of(BLOCK);
        }
    }
}

/// The size field, if the header's checksum is right.
fn checked_size(header: &[u8]) -> Option<usize> {
    let counted: u64 = header
        .iter()
        .enumerate()
        .map(|(index, byte)| u64::from(if (148..156).contains(&index) { b' ' } else { *byte }))
        .sum();
    if octal(&header[148..156])? != counted {
        return None;
    }
    usize::try_from(octal(&header[124..136])?).ok()
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Text up to the first NUL.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn header_name(header: &[u8]) -> String {
    let (prefix, name) = (text(&header[345..500]), text(&header[..100]));
    // GNU archives have other things where POSIX has the prefix, and say so in their magic.
    if prefix.is_empty() || &header[257..263] != b"ustar\0" { name } else { format!("{prefix}/{name}") }
}

/// The `path` record of a pax header: lines of `LENGTH KEY=VALUE`.
fn pax_path(mut content: &[u8]) -> Option<String> {
    let mut path = None;
    while let Some(space) = content.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&content[..space]).ok()?.parse().ok()?;
        let record = content.get(space + 1..length.checked_sub(1)?)?;
        if let Some(value) = record.strip_prefix(b"path=") {
            path = Some(text(value));
        }
        content = content.get(length..)?;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(name: &str, size: usize, kind: u8) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            bytes.extend(header(name, content.len(), b'0'));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn files_are_found_by_name() {
        let bytes = archive(&[("./caldav.toml", b"plain = true"), ("key.pem", &[7; 513])]);
        let bundle = Bundle::read(&bytes, "x.toml").unwrap();
        assert_eq!(bundle.file("caldav.toml"), Some(&b"plain = true"[..]));
        assert_eq!(bundle.file("key.pem"), Some(&[7; 513][..]));
        assert_eq!(bundle.file("./key.pem"), None);
    }

    #[test]
    fn a_single_file_is_the_services() {
        let bundle = Bundle::read(b"plain = true", "caldav.toml").unwrap();
        assert_eq!(bundle.file("caldav.toml"), Some(&b"plain = true"[..]));
    }

    #[test]
    fn names_may_come_in_a_header_of_their_own() {
        let long = "d/".repeat(80) + "file";
        let record = |length: usize| format!("{length} path={long}\n");
        let length = record(100).len();
        let pax = record(length);
        let mut bytes = header("PaxHeader", pax.len(), b'x');
        bytes.extend(pax.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes.extend(archive(&[("short", b"content")]));
        assert_eq!(Bundle::read(&bytes, "").unwrap().file(&long), Some(&b"content"[..]));
    }

    #[test]
    fn a_cut_archive_says_where() {
        let bytes = archive(&[("caldav.toml", &[b'#'; 5000])]);
        assert_eq!(
            Bundle::read(&bytes[..3000], "").unwrap_err(),
            BundleError::Truncated("caldav.toml".to_owned())
        );
        let mut damaged = bytes;
        damaged[130] = b'x';
        assert_eq!(Bundle::read(&damaged, "").unwrap_err(), BundleError::Header(0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0usize..3000, place in 0usize..2048, byte: u8) {
            let mut bytes = archive(&[("a", b"one"), ("b", &[1; 700])]);
            let place = place % bytes.len();
            bytes[place] = byte;
            bytes.truncate(cut);
            let _ = Bundle::read(&bytes, "x");
        }
    }
}
