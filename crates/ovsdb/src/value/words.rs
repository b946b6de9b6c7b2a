//! Shares repeated strings: the keys of maps, and many of their values, are the same in every row.
//!
//! Each thread caches the words that it read last and returns them instead of a copy. Whether a word is shared affects
//! only memory and speed.

use std::array;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The number of cached words. Words with the same hash slot replace each other.
const PLACES: usize = 256;

/// Longer strings are not cached.
const LONGEST: usize = 64;

thread_local! {
    static WORDS: RefCell<[Option<Arc<str>>; PLACES]> = RefCell::new(array::from_fn(|_| None));
}

/// Returns the text, without a copy if it is in the cache.
pub(super) fn shared(text: &str) -> Arc<str> {
    if text.len() > LONGEST {
        return text.into();
    }
    WORDS.with_borrow_mut(|words| {
        let place = &mut words[place_of(text)];
        match place {
            Some(word) if **word == *text => Arc::clone(word),
            _ => Arc::clone(place.insert(text.into())),
        }
    })
}

#[allow(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
fn place_of(text: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_copied_once_and_is_what_was_read() {
        let first = shared("vendor");
        assert!(Arc::ptr_eq(&first, &shared("vendor")));
        for number in 0..10 * PLACES {
            let word = number.to_string();
            assert_eq!(*shared(&word), *word);
        }
        assert_eq!(*shared("vendor"), *first);
    }

    #[test]
    fn long_texts_are_not_kept() {
        let text = "x".repeat(LONGEST + 1);
        assert_eq!(Arc::strong_count(&shared(&text)), 1);
    }
}
