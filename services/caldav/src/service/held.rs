//! How many bytes of answers are in memory until their clients have taken them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The sum of all answers that are held. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Held {
    // Atomic because `Bytes` may be sent between threads; there is one thread, so the order is of no concern.
    bytes: Arc<AtomicUsize>,
}

/// An answer that counts until it is dropped.
struct Counted {
    body: Bytes,
    held: Held,
}

impl Held {
    /// How many bytes are held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts a body until its last piece has been sent or given up.
    pub(super) fn hold(&self, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        self.bytes.fetch_add(body.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { body, held: self.clone() })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.body.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_its_last_piece_is_gone() {
        let held = Held::default();
        let mut first = held.hold(Bytes::from_static(b"0123456789"));
        let second = held.hold(Bytes::from_static(b"abc"));
        assert_eq!(held.bytes(), 13);
        let piece = first.split_to(4);
        drop(first);
        assert_eq!(held.bytes(), 13);
        drop(piece);
        assert_eq!((held.bytes(), &second[..]), (3, &b"abc"[..]));
        drop(second);
        assert_eq!(held.bytes(), 0);
    }
}
