//! What the API server says: every object that we read, as small as we need it.
//!
//! Every replica keeps this warm, leading or not. It holds no decision, only observations; [`Cluster::observe`] answers
//! which objects changed, and that is all an event does.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{IpPool, Subnet};
use kube::api::ObjectMeta;

pub use objects::{IpRecord, Member, Namespace, Node, Pod, STATEFUL_SET, StatefulSet};

use crate::sets::Sets;
use crate::watch::Seen;

/// One thing that a watch saw.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // a Subnet is large and rare; boxing it would cost every pod an allocation
pub enum Event {
    /// Of Namespaces.
    Namespaces(Seen<Namespace>),
    /// Of Subnets.
    Subnets(Seen<Subnet>),
    /// Of IPPools.
    IpPools(Seen<IpPool>),
    /// Of Nodes.
    Nodes(Seen<Node>),
    /// Of Pods that are bound to a node and want a network.
    Pods(Seen<Pod>),
    /// Of stateful sets.
    StatefulSets(Seen<StatefulSet>),
    /// Of IPs.
    Ips(Seen<IpRecord>),
    /// What is wrong with the service range that we were told, if anything is; see [`crate::services`].
    Services(Option<Arc<str>>),
}

/// The name of an object that something is to be decided about. The order is the order of deciding: what others depend on
/// comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A Subnet by name.
    Subnet(Arc<str>),
    /// An IPPool by name.
    IpPool(Arc<str>),
    /// A Namespace by name.
    Namespace(Arc<str>),
    /// A Node by name.
    Node(Arc<str>),
    /// A stateful set, `<namespace>/<name>`.
    StatefulSet(Arc<str>),
    /// A Pod by its port's name.
    Pod(Arc<str>),
    /// An IP by name.
    Ip(Arc<str>),
}

/// Every object that we read.
#[derive(Debug, Default)]
pub struct Cluster {
    /// By name.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// By name.
    pub subnets: BTreeMap<Arc<str>, Subnet>,
    /// By name.
    pub pools: BTreeMap<Arc<str>, IpPool>,
    /// By name.
    pub nodes: BTreeMap<Arc<str>, Node>,
    /// By `<namespace>/<name>`.
    pub stateful_sets: BTreeMap<Arc<str>, StatefulSet>,
    /// By port name.
    pub pods: BTreeMap<Arc<str>, Pod>,
    /// By name.
    pub ips: BTreeMap<Arc<str>, IpRecord>,
    /// What is wrong with the service range that we were told.
    pub services: Option<Arc<str>>,
    /// Reverse index: the ports of each namespace's pods.
    pods_of: Sets<Arc<str>>,
    restated: BTreeSet<Object>,
    synced: Synced,
}

/// Which kinds have been listed once.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // seven independent facts
struct Synced {
    namespaces: bool,
    subnets: bool,
    pools: bool,
    nodes: bool,
    pods: bool,
    stateful_sets: bool,
    ips: bool,
}

impl Cluster {
    /// Takes in what a watch saw; answers which objects are not what they were. What nothing is decided by does not count:
    /// of a Subnet and an `IPPool` its status, which is mostly our own writing come back.
    pub fn observe(&mut self, event: Event) -> Vec<Object> {
        match event {
            Event::Namespaces(seen) => {
                self.synced.namespaces |= matches!(seen, Seen::Reset(_));
                take_in(&mut self.namespaces, seen, |namespace| namespace.name.clone(), Object::Namespace)
            }
            Event::Subnets(seen) => {
                self.synced.subnets |= matches!(seen, Seen::Reset(_));
                let name = |subnet: &Subnet| subnet.metadata.name.as_deref().unwrap_or_default().into();
                let restated = &mut self.restated;
                let same = |before: &Subnet, now: &Subnet| {
                    if before.status != now.status {
                        restated.insert(Object::Subnet(name(now)));
                    }
                    before.spec == now.spec && is_the_same(&before.metadata, &now.metadata)
                };
                take_in_unless(same, &mut self.subnets, seen, name, Object::Subnet)
            }
            Event::IpPools(seen) => {
                self.synced.pools |= matches!(seen, Seen::Reset(_));
                let name = |pool: &IpPool| pool.metadata.name.as_deref().unwrap_or_default().into();
                let restated = &mut self.restated;
                let same = |before: &IpPool, now: &IpPool| {
                    if before.status != now.status {
                        restated.insert(Object::IpPool(name(now)));
                    }
                    before.spec == now.spec && is_the_same(&before.metadata, &now.metadata)
                };
                take_in_unless(same, &mut self.pools, seen, name, Object::IpPool)
            }
            Event::Nodes(seen) => {
                self.synced.nodes |= matches!(seen, Seen::Reset(_));
                take_in(&mut self.nodes, seen, |node| node.name.clone(), Object::Node)
            }
            Event::StatefulSets(seen) => {
                self.synced.stateful_sets |= matches!(seen, Seen::Reset(_));
                take_in(&mut self.stateful_sets, seen, |set| set.path.clone(), Object::StatefulSet)
            }
            // No object is decided about by it.
            Event::Services(wrong) => {
                self.services = wrong;
                Vec::new()
            }
            Event::Ips(seen) => {
                self.synced.ips |= matches!(seen, Seen::Reset(_));
                take_in(&mut self.ips, seen, |ip| ip.name.clone(), Object::Ip)
            }
            Event::Pods(seen) => {
                self.synced.pods |= matches!(seen, Seen::Reset(_));
                let changed = take_in(&mut self.pods, seen, |pod| pod.port.clone(), Object::Pod);
                for object in &changed {
                    self.index_pod(object);
                }
                changed
            }
        }
    }

    /// The Subnets and `IPPools` whose status was seen to change since the last call. If somebody else wrote it, it is wrong.
    pub fn take_restated(&mut self) -> BTreeSet<Object> {
        std::mem::take(&mut self.restated)
    }

    /// Whether every kind has been listed, so that what is not here does not exist.
    pub fn is_synced(&self) -> bool {
        self.missing().next().is_none()
    }

    /// The kinds that have not been listed yet, as the API server names them.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let Synced { namespaces, subnets, pools, nodes, pods, stateful_sets, ips } = self.synced;
        let kinds = [
            (namespaces, "namespaces"),
            (subnets, "subnets"),
            (pools, "ippools"),
            (nodes, "nodes"),
            (pods, "pods"),
            (stateful_sets, "statefulsets"),
            (ips, "ips"),
        ];
        kinds.into_iter().filter_map(|(listed, kind)| (!listed).then_some(kind))
    }

    /// Every object there is.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let subnets = self.subnets.keys().cloned().map(Object::Subnet);
        let pools = self.pools.keys().cloned().map(Object::IpPool);
        let namespaces = self.namespaces.keys().cloned().map(Object::Namespace);
        let nodes = self.nodes.keys().cloned().map(Object::Node);
        let pods = self.pods.keys().cloned().map(Object::Pod);
        let ips = self.ips.keys().cloned().map(Object::Ip);
        subnets.chain(pools).chain(namespaces).chain(nodes).chain(pods).chain(ips)
    }

    /// Whether a pod is expected to come back to this place.
    pub fn expects(&self, member: &Member) -> bool {
        self.stateful_sets.get(&member.set).is_some_and(|set| set.ordinals.contains(&member.ordinal))
    }

    /// The ports of a namespace's pods.
    pub fn ports_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<str>> {
        self.pods_of.of(namespace)
    }

    fn index_pod(&mut self, object: &Object) {
        let Object::Pod(port) = object else { return };
        let Some((_, namespace)) = api::pod_of_port(port) else { return };
        if self.pods.contains_key(port) {
            self.pods_of.insert(&namespace.into(), Arc::clone(port));
        } else {
            self.pods_of.remove(namespace, port);
        }
    }
}

/// Whether two states of an object ask the same of us besides its spec. Labels, annotations and the API server's own
/// bookkeeping do not ask anything.
fn is_the_same(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.uid == b.uid && a.deletion_timestamp == b.deletion_timestamp && a.finalizers == b.finalizers
}

/// Brings one kind up to date; answers whose objects are not what they were.
fn take_in<T: PartialEq>(
    store: &mut BTreeMap<Arc<str>, T>,
    seen: Seen<T>,
    name_of: impl Fn(&T) -> Arc<str>,
    object: impl Fn(Arc<str>) -> Object,
) -> Vec<Object> {
    take_in_unless(|before, now| before == now, store, seen, name_of, object)
}

/// The same, but for what counts as a change.
fn take_in_unless<T>(
    mut same: impl FnMut(&T, &T) -> bool,
    store: &mut BTreeMap<Arc<str>, T>,
    seen: Seen<T>,
    name_of: impl Fn(&T) -> Arc<str>,
    object: impl Fn(Arc<str>) -> Object,
) -> Vec<Object> {
    let mut put = |store: &mut BTreeMap<Arc<str>, T>, new: T| {
        let name = name_of(&new);
        let same = store.get(&name).is_some_and(|before| same(before, &new));
        store.insert(Arc::clone(&name), new);
        (name, !same)
    };
    match seen {
        Seen::Apply(new) => {
            let (name, changed) = put(store, new);
            changed.then(|| object(name)).into_iter().collect()
        }
        Seen::Delete(old) => store.remove_entry(&name_of(&old)).map(|(name, _)| object(name)).into_iter().collect(),
        Seen::Reset(all) => {
            let mut gone: BTreeSet<Arc<str>> = store.keys().cloned().collect();
            let mut changed = Vec::new();
            for new in all {
                let (name, differs) = put(store, new);
                gone.remove(&name);
                if differs {
                    changed.push(object(name));
                }
            }
            for name in gone {
                store.remove(&name);
                changed.push(object(name));
            }
            changed
        }
    }
}

#[cfg(test)]
mod tests;
