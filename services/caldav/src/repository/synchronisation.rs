//! What changed in a collection since a sync-token (RFC 6578): the difference between two trees.

use core::fmt;
use core::str::FromStr;

use redb::ReadableTable;

use super::objects::Objects;
use super::properties::FILE;
use super::{Collection, Error, Home, ObjectId, Tables};

/// A state of a repository that a client has seen, all of it or a part.
///
/// Written as `COMMIT` or, where a report was cut short by a limit, as `FROM-COMMIT-COUNT`: the first `COUNT` changes
/// between the commits `FROM` (40 zeros: from nothing) and `COMMIT` were reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// The commit reported, or being reported.
    commit: ObjectId,
    /// For a report cut short: where it began, and how many changes of it are done.
    part: Option<(Option<ObjectId>, u32)>,
}

impl SyncToken {
    /// The token of a whole commit.
    #[must_use]
    pub const fn of(commit: ObjectId) -> Self {
        Self { commit, part: None }
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((from, done)) = self.part {
            let from = from.unwrap_or(ObjectId::null(gix_hash::Kind::Sha1));
            return write!(f, "{from}-{}-{done}", self.commit);
        }
        self.commit.fmt(f)
    }
}

impl FromStr for SyncToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let id = |hex: &str| {
            // `from_hex` takes 64 digits too.
            let id = if hex.len() == 40 { ObjectId::from_hex(hex.as_bytes()).ok() } else { None };
            id.ok_or(Error::UnknownToken)
        };
        let mut parts = text.splitn(3, '-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(commit), None, None) => Ok(Self::of(id(commit)?)),
            (Some(from), Some(commit), Some(done)) => {
                let from = id(from)?;
                let done = done.parse().map_err(|_| Error::UnknownToken)?;
                Ok(Self { commit: id(commit)?, part: Some(((!from.is_null()).then_some(from), done)) })
            }
            _ => Err(Error::UnknownToken),
        }
    }
}

/// The answer to a sync report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Names and ETags of resources that are new or have changed.
    pub changed: Vec<(String, ObjectId)>,
    /// Names of resources that are gone.
    pub removed: Vec<String>,
    /// What the client says next time.
    pub token: SyncToken,
    /// Whether the limit cut the report short: the client asks again with `token` (RFC 6578 clause 3.6).
    pub truncated: bool,
}

impl<T: Tables> Collection<'_, '_, T> {
    /// What changed here since `since` (`None`: all that is here), at most `limit` names.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] for a token that was not given for this collection; [`Error::Storage`],
    /// [`Error::Corrupt`].
    pub fn changes(&self, since: Option<&SyncToken>, limit: usize) -> Result<Changes, Error> {
        let head = self.snapshot.head.ok_or(Error::UnknownToken)?;
        // A report that was cut short goes on to the commit it was about; what came later is the next report's.
        let (from, commit, done) = match since {
            None => (None, head, 0),
            Some(SyncToken { commit, part: None }) => (Some(*commit), head, 0),
            Some(SyncToken { commit, part: Some((from, done)) }) => (*from, *commit, *done),
        };
        let objects = self.snapshot.objects();
        let old = match from {
            Some(from) => Some(tree_at(&objects, &from, self.home, &self.name)?),
            None => None,
        };
        let new = if commit == head { self.tree } else { tree_at(&objects, &commit, self.home, &self.name)? };

        let skip = usize::try_from(done).unwrap_or(usize::MAX);
        let mut report =
            Report { objects: &objects, skip, room: limit, full: false, differences: Vec::new() };
        report.folders(old, Some(new), 0)?;
        let Report { full: truncated, differences, .. } = report;
        let token = if truncated {
            let reported = u32::try_from(differences.len()).unwrap_or(u32::MAX);
            SyncToken { commit, part: Some((from, done.saturating_add(reported))) }
        } else {
            SyncToken::of(commit)
        };
        let mut changes = Changes { changed: Vec::new(), removed: Vec::new(), token, truncated };
        for (name, etag) in differences {
            match etag {
                Some(etag) => changes.changed.push((name, etag)),
                None => changes.removed.push(name),
            }
        }
        Ok(changes)
    }
}

/// The tree of a collection at a commit that a client names.
fn tree_at<T: ReadableTable<&'static [u8], &'static [u8]>>(
    objects: &Objects<'_, T>,
    commit: &ObjectId,
    home: Home,
    name: &str,
) -> Result<ObjectId, Error> {
    // Commits are only ever added on top of main, so one that is here is an ancestor of it.
    match objects.find(commit)? {
        Some(stored) if stored.kind == gix_object::Kind::Commit => {}
        _ => return Err(Error::UnknownToken),
    }
    let root = objects.tree_of(commit)?;
    objects.descend(root, &[home.folder(), name])?.ok_or(Error::UnknownToken)
}

/// Levels of folders between a collection and its resources.
const FAN_OUT_LEVELS: usize = 2;

/// Compares two trees of a collection in git's order, which is the same each time.
struct Report<'a, T> {
    objects: &'a Objects<'a, T>,
    skip: usize,
    room: usize,
    full: bool,
    differences: Vec<(String, Option<ObjectId>)>,
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Report<'_, T> {
    fn folders(&mut self, old: Option<ObjectId>, new: Option<ObjectId>, level: usize) -> Result<(), Error> {
        if old == new || self.full {
            return Ok(());
        }
        let entries = |tree: Option<ObjectId>| match tree {
            Some(tree) => self.objects.entries(&tree),
            None => Ok(Vec::new()),
        };
        // All entries of a level are of one kind (but for the collection's own file), so their order is that of bytes.
        let (mut old, mut new) = (entries(old)?.into_iter().peekable(), entries(new)?.into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => core::cmp::Ordering::Less,
                (None, Some(_)) => core::cmp::Ordering::Greater,
                (Some((_, old, _)), Some((_, new, _))) => old.cmp(new),
            };
            let before = if order.is_le() { old.next() } else { None };
            let after = if order.is_ge() { new.next() } else { None };
            let (before_id, after_id) =
                (before.as_ref().map(|(.., id)| *id), after.as_ref().map(|(.., id)| *id));
            if before_id == after_id {
                continue;
            }
            let Some((_, name, _)) = after.or(before) else { return Ok(()) };
            if level < FAN_OUT_LEVELS {
                if name != FILE {
                    self.folders(before_id, after_id, level + 1)?;
                }
            } else {
                self.difference(name, after_id);
            }
            if self.full {
                return Ok(());
            }
        }
    }

    fn difference(&mut self, name: String, etag: Option<ObjectId>) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.room == 0 {
            self.full = true;
        } else {
            self.room -= 1;
            self.differences.push((name, etag));
        }
    }
}
