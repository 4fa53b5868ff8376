//! The configuration bundle of the process: a file that stays open, so that it can be read again when the process may
//! open nothing any more.

use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::{ProcessError, system};
use crate::config::MAX_BUNDLE;

/// Bytes asked for at a time.
const CHUNK: usize = 64 * 1024;

/// The open file. It is read by its descriptor: who replaces the configuration writes into the same file. It stays open as
/// long as the process runs.
pub struct BundleFile {
    descriptor: RawFd,
    path: PathBuf,
}

impl BundleFile {
    /// Opens a file and reads it. A pipe can be read this once: of it there is no file.
    pub(super) fn open(path: &Path) -> Result<(Vec<u8>, Option<Self>), ProcessError> {
        let file = Self { descriptor: system::open(path, libc::O_RDONLY)?, path: path.to_owned() };
        if system::is_seekable(file.descriptor) {
            return Ok((file.read()?, Some(file)));
        }
        let content = file.read_by(|buffer, _| system::read(file.descriptor, buffer))?;
        system::close(file.descriptor);
        Ok((content, None))
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// When it cannot be read, or is longer than a bundle may be.
    pub fn read(&self) -> Result<Vec<u8>, ProcessError> {
        self.read_by(|buffer, offset| system::read_at(self.descriptor, buffer, offset))
    }

    /// Reads to the end by `read`, which is given a buffer and its place in the file.
    fn read_by(&self, read: impl Fn(&mut [u8], u64) -> io::Result<usize>) -> Result<Vec<u8>, ProcessError> {
        let path = self.path.display();
        let mut content = Vec::new();
        loop {
            let end = content.len();
            content.resize(end + CHUNK, 0);
            let length = read(&mut content[end..], end as u64)
                .map_err(|error| ProcessError::new(format_args!("{path}: {error}")))?;
            content.truncate(end + length);
            if length == 0 {
                return Ok(content);
            }
            if content.len() > MAX_BUNDLE {
                return Err(ProcessError::new(format_args!(
                    "{path}: a configuration bundle may have at most {MAX_BUNDLE} bytes"
                )));
            }
        }
    }
}
