//! A map from names to sets, for example from namespaces to their pods. Empty sets are not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A set for each name.
#[derive(Debug)]
pub struct Sets<T>(BTreeMap<Arc<str>, BTreeSet<T>>);

// Not derived: that would require `T: Default`.
impl<T> Default for Sets<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Sets<T> {
    /// Adds a member to the set of a name.
    pub fn insert(&mut self, name: &Arc<str>, member: T) {
        self.0.entry(Arc::clone(name)).or_default().insert(member);
    }

    /// Removes a member from the set of a name.
    pub fn remove(&mut self, name: &str, member: &T) {
        let Some(set) = self.0.get_mut(name) else { return };
        set.remove(member);
        if set.is_empty() {
            self.0.remove(name);
        }
    }

    /// The members of the set of a name, in order.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &T> {
        self.0.get(name).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_removed_with_its_last_member() {
        let mut sets = Sets::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for (name, member) in [(&a, 2), (&a, 1), (&a, 2), (&b, 3)] {
            sets.insert(name, member);
        }
        assert!(sets.of("a").eq(&[1, 2]) && sets.of("b").eq(&[3]) && sets.of("c").next().is_none());
        sets.remove("a", &1);
        sets.remove("a", &3);
        sets.remove("b", &3);
        sets.remove("c", &3);
        assert!(sets.of("a").eq(&[2]));
        assert_eq!(sets.0.len(), 1, "{sets:?}");
    }
}
