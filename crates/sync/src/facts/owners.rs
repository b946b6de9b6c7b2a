//! The groups that want a fact, counted.

use std::collections::BTreeMap;

use ovn::Group;

/// The groups that want a fact, and how often each wants it. `None` stands for facts without a group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Owners {
    /// Nearly every fact has one owner.
    One(Option<Group>, u32),
    /// The box keeps the common case small.
    #[allow(clippy::box_collection, reason = "nearly every fact has one owner")]
    Many(Box<BTreeMap<Option<Group>, u32>>),
}

impl Owners {
    pub(super) fn new(group: Option<&Group>) -> Self {
        Self::One(group.cloned(), 1)
    }

    pub(super) fn add(&mut self, group: Option<&Group>) {
        match self {
            Self::One(own, count) if own.as_ref() == group => *count += 1,
            Self::One(own, count) => {
                let many = BTreeMap::from([(own.take(), *count), (group.cloned(), 1)]);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => *many.entry(group.cloned()).or_default() += 1,
        }
    }

    /// Removes one count of a group. Returns true if nobody is left, and `None` if the group did not want the fact.
    pub(super) fn remove(&mut self, group: Option<&Group>) -> Option<bool> {
        match self {
            Self::One(own, count) => {
                if own.as_ref() != group {
                    return None;
                }
                *count = count.saturating_sub(1);
                Some(*count == 0)
            }
            Self::Many(many) => {
                let group = group.cloned();
                let count = many.get_mut(&group)?;
                *count -= 1;
                if *count == 0 {
                    many.remove(&group);
                }
                if many.len() == 1
                    && let Some((own, count)) = many.pop_first()
                {
                    *self = Self::One(own, count);
                }
                Some(false)
            }
        }
    }

    /// Returns the groups, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = Option<&Group>> {
        let (one, many) = match self {
            Self::One(own, _) => (Some(own.as_ref()), None),
            Self::Many(many) => (None, Some(many.keys().map(Option::as_ref))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
