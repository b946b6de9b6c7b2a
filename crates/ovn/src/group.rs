//! Groups of facts: what is written together or not at all.

use std::fmt;
use std::sync::Arc;

/// Names the facts of one object, for example of a pod or of a policy. The database takes all changes for one group in
/// one transaction or refuses all of them.
///
/// A group is a label that is shared by reference. The label of a pod's group can share memory with the name of its port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Arc<str>);

impl Group {
    /// Returns the group with this label.
    pub fn new(label: impl Into<Arc<str>>) -> Self {
        Self(label.into())
    }

    /// Returns the label.
    pub fn label(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
