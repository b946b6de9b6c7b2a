//! A set for each name, such as the pods of each namespace. A name whose set is empty takes no room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sets by name.
#[derive(Debug)]
pub struct Sets<T>(BTreeMap<Arc<str>, BTreeSet<T>>);

// Not derived: that would ask the members for a default too.
impl<T> Default for Sets<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Sets<T> {
    /// Puts a member into a name's set.
    pub fn insert(&mut self, name: &Arc<str>, member: T) {
        self.0.entry(Arc::clone(name)).or_default().insert(member);
    }

    /// Takes a member out of a name's set.
    pub fn remove(&mut self, name: &str, member: &T) {
        let Some(set) = self.0.get_mut(name) else { return };
        set.remove(member);
        if set.is_empty() {
            self.0.remove(name);
        }
    }

    /// The members of a name's set, in order.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &T> {
        self.0.get(name).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_goes_with_its_last_member() {
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
