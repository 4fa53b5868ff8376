//! The word that somebody may have meant.

/// More edits than this and it is another word.
const MAX_EDITS: usize = 3;

/// The candidate nearest to `word`, if one is near enough to suggest.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= MAX_EDITS && *edits < candidate.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements of bytes between two words (Levenshtein's distance).
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, left) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("plian", ["plain", "user"]), Some("plain"));
        assert_eq!(nearest("--ipv5", ["--ipv4", "--dns"]), Some("--ipv4"));
        assert_eq!(nearest("entirely", ["plain", "user"]), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
