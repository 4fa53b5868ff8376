//! Writing a repository out: each reachable object as git's loose object files hold it, and the reference.
//!
//! The files make a bare repository that `git fsck`, `git log` and `git clone` read.

use std::collections::HashSet;

use gix_hash::Kind as HashKind;
use gix_object::{CommitRef, Kind, TreeRefIter};

use super::tables::MAIN;
use super::{Error, ObjectId, Snapshot, Tables};

/// Emits the files of a bare repository, by path: `HEAD`, `config`, `refs/heads/main` and `objects/xx/...`.
/// Each object comes once; the reference comes last, when all it needs has been written.
///
/// # Errors
/// What `sink` returns; [`Error::Storage`], and [`Error::Corrupt`] for a missing or damaged object.
pub fn export<T: Tables, E: From<Error>>(
    snapshot: &Snapshot<'_, T>,
    mut sink: impl FnMut(&str, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    sink("HEAD", format!("ref: {MAIN}\n").as_bytes())?;
    sink("config", b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    let Some(head) = snapshot.head() else { return Ok(()) };
    visit_reachable(snapshot, |id, kind, bytes| {
        let hex = id.to_string();
        let (folder, file) = hex.split_at(2);
        sink(&format!("objects/{folder}/{file}"), &loose(kind, bytes))
    })?;
    sink(MAIN, format!("{head}\n").as_bytes())
}

/// Visits each object that the reference leads to, once.
///
/// # Errors
/// What `visit` returns; [`Error::Storage`], and [`Error::Corrupt`] for a missing or damaged object.
pub(super) fn visit_reachable<T: Tables, E: From<Error>>(
    snapshot: &Snapshot<'_, T>,
    mut visit: impl FnMut(&ObjectId, Kind, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let Some(head) = snapshot.head() else { return Ok(()) };
    let objects = snapshot.objects();
    let mut seen = HashSet::from([head]);
    let mut queue: Vec<(ObjectId, Kind)> = vec![(head, Kind::Commit)];
    while let Some((id, kind)) = queue.pop() {
        let stored = objects.get(&id, kind).map_err(E::from)?;
        let mut reach = |id: ObjectId, kind: Kind| {
            if seen.insert(id) {
                queue.push((id, kind));
            }
        };
        let damaged = |error: gix_error::Error| E::from(Error::Corrupt(format!("{kind} {id}: {error}")));
        match kind {
            Kind::Commit => {
                let commit = CommitRef::from_bytes(stored.bytes(), HashKind::Sha1).map_err(damaged)?;
                reach(commit.tree(), Kind::Tree);
                commit.parents().for_each(|parent| reach(parent, Kind::Commit));
            }
            Kind::Tree => {
                for entry in TreeRefIter::from_bytes(stored.bytes(), HashKind::Sha1) {
                    let entry = entry.map_err(damaged)?;
                    reach(entry.oid.to_owned(), if entry.mode.is_tree() { Kind::Tree } else { Kind::Blob });
                }
            }
            Kind::Blob | Kind::Tag => {}
        }
        visit(&id, kind, stored.bytes())?;
    }
    Ok(())
}

/// A loose object: header and bytes in a zlib stream (RFC 1950) of stored blocks (RFC 1951 clause 3.2.4). An export is
/// read once and packed by whoever reads it, so compressing it here would be work for nothing.
fn loose(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    /// Largest stored block.
    const BLOCK: usize = 0xffff;
    let header = gix_object::encode::loose_header(kind, bytes.len() as u64);
    let content = [header.as_slice(), bytes].concat();
    let mut stream = Vec::with_capacity(content.len() + content.len() / BLOCK * 5 + 16);
    stream.extend_from_slice(&[0x78, 0x01]);
    let mut blocks = content.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend_from_slice(&adler32(&content).to_be_bytes());
    stream
}

/// The checksum of zlib (RFC 1950 clause 9).
fn adler32(bytes: &[u8]) -> u32 {
    /// Largest prime below 65536.
    const BASE: u32 = 65521;
    /// Most bytes before the sums overflow 32 bits.
    const RUN: usize = 5552;
    let (mut a, mut b) = (1_u32, 0_u32);
    for run in bytes.chunks(RUN) {
        for &byte in run {
            a += u32::from(byte);
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler32_of_the_well_known_word() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
