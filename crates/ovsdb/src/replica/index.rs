//! An index by a key that is nearly always unique. A key with one row needs no set.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

/// Maps a key to its rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashMap<Box<str>, Holders>);

#[derive(Clone, Debug)]
enum Holders {
    One(Uuid),
    /// The rows of a key that has had two or more rows.
    Many(BTreeSet<Uuid>),
}

impl Index {
    pub(super) fn find<'a>(&'a self, key: &str) -> impl Iterator<Item = Uuid> + use<'a> {
        let (one, many) = match self.0.get(key) {
            None => (None, None),
            Some(Holders::One(row)) => (Some(*row), None),
            Some(Holders::Many(rows)) => (None, Some(rows)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    pub(super) fn reserve(&mut self, keys: usize) {
        self.0.reserve(keys);
    }

    pub(super) fn link(&mut self, key: String, row: Uuid) {
        match self.0.get_mut(key.as_str()) {
            None => {
                self.0.insert(key.into(), Holders::One(row));
            }
            Some(holders) => match holders {
                Holders::One(other) => *holders = Holders::Many(BTreeSet::from([*other, row])),
                Holders::Many(rows) => {
                    rows.insert(row);
                }
            },
        }
    }

    pub(super) fn unlink(&mut self, key: &str, row: Uuid) {
        let gone = match self.0.get_mut(key) {
            None => false,
            Some(Holders::One(holder)) => *holder == row,
            Some(Holders::Many(rows)) => {
                rows.remove(&row);
                rows.is_empty()
            }
        };
        if gone {
            self.0.remove(key);
        }
    }
}
