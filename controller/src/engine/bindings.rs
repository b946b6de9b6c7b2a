//! An index of the namespaces that are bound to subnets or pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sets::Sets;

/// How a namespace is bound. The smaller value takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BoundBy {
    /// By name: the owner lists the namespace.
    Name,
    /// By label: a selector of the owner matches the namespace.
    Label,
}

/// The bindings between owners (subnets or pools) and namespaces.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    owners: Sets<(BoundBy, Arc<str>)>,
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, BoundBy>>,
}

impl Bindings {
    /// Binds an owner to exactly these namespaces. Returns the namespaces whose binding changed.
    pub(super) fn bind(&mut self, owner: &Arc<str>, wanted: BTreeMap<Arc<str>, BoundBy>) -> Vec<Arc<str>> {
        let before = self.namespaces.remove(owner).unwrap_or_default();
        let mut changed = Vec::new();
        for (namespace, by) in before.iter().filter(|(namespace, by)| wanted.get(*namespace) != Some(by)) {
            self.owners.remove(namespace, &(*by, Arc::clone(owner)));
            changed.push(Arc::clone(namespace));
        }
        for (namespace, by) in wanted.iter().filter(|(namespace, by)| before.get(*namespace) != Some(by)) {
            self.owners.insert(namespace, (*by, Arc::clone(owner)));
            if !before.contains_key(namespace) {
                changed.push(Arc::clone(namespace));
            }
        }
        if !wanted.is_empty() {
            self.namespaces.insert(Arc::clone(owner), wanted);
        }
        changed
    }

    /// Binds or unbinds one namespace by label. A binding by name is not changed.
    pub(super) fn select(&mut self, owner: &Arc<str>, namespace: &Arc<str>, selected: bool) {
        let before = self.namespaces.get(owner).and_then(|all| all.get(namespace)).copied();
        if before == Some(BoundBy::Name) || before.is_some() == selected {
            return;
        }
        let key = (BoundBy::Label, Arc::clone(owner));
        let all = self.namespaces.entry(Arc::clone(owner)).or_default();
        if selected {
            all.insert(Arc::clone(namespace), BoundBy::Label);
            self.owners.insert(namespace, key);
        } else {
            all.remove(namespace);
            self.owners.remove(namespace, &key);
        }
    }

    /// The owners of a namespace, in order of precedence.
    pub(super) fn owners(&self, namespace: &str) -> impl Iterator<Item = (BoundBy, &Arc<str>)> {
        self.owners.of(namespace).map(|(by, owner)| (*by, owner))
    }

    /// The namespaces of an owner.
    pub(super) fn namespaces(&self, owner: &str) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.get(owner).into_iter().flat_map(BTreeMap::keys)
    }
}
