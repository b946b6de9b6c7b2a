//! The Kubernetes objects that the controller reads, reduced to the fields that it uses.
//!
//! Every replica keeps this state current, whether it leads or not. It holds only observations, no decisions.
//! [`Cluster::observe`] applies one event and returns the objects that the event is about.
//!
//! To add a kind, add a row to the table of kinds below, its type in `cluster/objects.rs`, implement [`Watched`] in `cluster/changes.rs`, start its watch
//! in `run.rs`, and decide about it in the engine.

mod changes;
mod objects;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{IpPool, Subnet};

pub use objects::{
    ExternalHost, IpRecord, Machine, Member, Namespace, Node, Pod, PortSecurity, STATEFUL_SET, StatefulSet,
};
pub use store::{Change, Observed, Store, Watched};

use crate::chassis::NodeChassis;
use crate::sets::Sets;
use crate::watch::WatchEvent;

/// The table of kinds. Each row has a field of [`Cluster`], a variant of [`Event`] with the stored type, and a variant
/// of [`Object`]. Objects are decided in the order of the rows: dependencies come first.
macro_rules! kinds {
    ($($(#[$doc:meta])* $field:ident: $event:ident($kept:ty) => $object:ident),* $(,)?) => {
        /// An observed event.
        #[derive(Debug)]
        #[allow(clippy::large_enum_variant)] // a Subnet is large and rare; a box would cost every pod an allocation
        pub enum Event {
            $($(#[$doc])* $event(WatchEvent<$kept>),)*
            /// The difference between the configured service range and that of the API server, if any; see
            /// [`crate::services`].
            Services(Option<Arc<str>>),
            /// The chassis and the agent's report of each node; see [`crate::chassis`].
            Reports(BTreeMap<Arc<str>, NodeChassis>),
            /// The active chassis of each centralized subnet; see [`crate::chassis`].
            Exits(BTreeMap<Arc<str>, Arc<str>>),
            /// The addresses of the API servers; see [`crate::api_servers`].
            ApiServers(BTreeSet<IpAddr>),
        }

        /// The name of an object. Variants are ordered by dependency: objects that others depend on come first.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Object {
            $($(#[$doc])* $object(Arc<str>),)*
        }

        /// Every object that the controller reads.
        #[derive(Debug, Default)]
        pub struct Cluster {
            $($(#[$doc])* pub $field: Store<$kept>,)*
            /// The difference between the configured service range and that of the API server.
            pub services: Option<Arc<str>>,
            /// The chassis and the agent's report of each node.
            pub reports: BTreeMap<Arc<str>, NodeChassis>,
            /// Whether `reports` was read from the southbound database.
            pub reported: bool,
            /// The active chassis of each centralized subnet whose pods leave by one node.
            pub exits: BTreeMap<Arc<str>, Arc<str>>,
            /// The addresses of the API servers; `None` before they are known.
            pub api_servers: Option<BTreeSet<IpAddr>>,
            /// Reverse index: the ports of each namespace's pods.
            pods_of: Sets<Arc<str>>,
        }

        impl Cluster {
            /// Applies an event. Returns the objects that it is about and how they changed.
            pub fn observe(&mut self, event: Event) -> Vec<Observed> {
                match event {
                    $(Event::$event(watch_event) => {
                        let observed = self.$field.apply(watch_event, Object::$object);
                        self.index(&observed);
                        observed
                    })*
                    Event::Services(wrong) => {
                        self.services = wrong;
                        Vec::new()
                    }
                    Event::ApiServers(addresses) => {
                        self.api_servers = Some(addresses);
                        self.all_subnets()
                    }
                    Event::Reports(reports) => self.update_reports(reports),
                    Event::Exits(exits) => self.update_exits(exits),
                }
            }

            /// The kinds that are not listed yet, by their plural name in the API.
            pub fn missing(&self) -> impl Iterator<Item = &'static str> {
                let kinds = [$((self.$field.is_listed(), <$kept as Watched>::PLURAL)),*];
                let api_servers = (self.api_servers.is_some(), "endpointslices");
                kinds.into_iter().chain([api_servers]).filter_map(|(listed, kind)| (!listed).then_some(kind))
            }

            /// All objects, in the order in which they are decided.
            pub fn objects(&self) -> impl Iterator<Item = Object> {
                std::iter::empty()$(.chain(self.$field.keys().cloned().map(Object::$object)))*
            }
        }
    };
}

kinds! {
    /// Subnets, by name.
    subnets: Subnets(Subnet) => Subnet,
    /// IPPools, by name.
    pools: IpPools(IpPool) => IpPool,
    /// Namespaces, by name.
    namespaces: Namespaces(Namespace) => Namespace,
    /// Nodes, by name.
    nodes: Nodes(Node) => Node,
    /// External hosts, by name.
    external_hosts: ExternalHosts(ExternalHost) => ExternalHost,
    /// Stateful sets, by `<namespace>/<name>`.
    stateful_sets: StatefulSets(StatefulSet) => StatefulSet,
    /// Pods that are bound to a node and need a network, by port name `<pod>.<namespace>`.
    pods: Pods(Pod) => Pod,
    /// IPs, by name.
    ips: Ips(IpRecord) => Ip,
}

impl Cluster {
    /// Whether every kind has been listed. Then an object that is not in here does not exist.
    pub fn is_synced(&self) -> bool {
        self.missing().next().is_none()
    }

    /// The Node with this name, or else the external host.
    pub fn machine(&self, name: &str) -> Option<Machine<'_>> {
        self.nodes.get(name).map(Machine::from).or_else(|| self.external_hosts.get(name).map(Machine::from))
    }

    /// The chassis and the report of the Node with this name, or else of the external host. Not those of the one that does not
    /// count because the other has the name.
    pub fn report(&self, name: &str) -> Option<&NodeChassis> {
        let machine = self.machine(name)?;
        self.reports.get(name).filter(|chassis| chassis.report.external == machine.external)
    }

    /// All Nodes and external hosts.
    pub fn machines(&self) -> impl Iterator<Item = Machine<'_>> {
        let external = self.external_hosts.values().filter(|host| !self.nodes.contains_key(&host.name));
        self.nodes.values().map(Machine::from).chain(external.map(Machine::from))
    }

    /// Whether the stateful set expects a pod with this ordinal.
    pub fn expects(&self, member: &Member) -> bool {
        self.stateful_sets.get(&member.set).is_some_and(|set| set.ordinals.contains(&member.ordinal))
    }

    /// The ports of a namespace's pods.
    pub fn ports_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<str>> {
        self.pods_of.of(namespace)
    }

    fn update_reports(&mut self, reports: BTreeMap<Arc<str>, NodeChassis>) -> Vec<Observed> {
        let first = !std::mem::replace(&mut self.reported, true);
        let before = std::mem::replace(&mut self.reports, reports);
        let names: BTreeSet<&Arc<str>> = before.keys().chain(self.reports.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != self.reports.get(*name));
        let nodes = changed.map(|name| Observed { object: Object::Node(Arc::clone(name)), change: Change::Decides });
        let nodes: Vec<Observed> = nodes.collect();
        if !first {
            return nodes;
        }
        // New networks could not be checked before the first report, and the chassis of nodes were those of their annotations.
        let all = self.nodes.keys().cloned().map(Object::Node);
        let all = all.map(|object| Observed { object, change: Change::Decides });
        nodes.into_iter().chain(all).chain(self.all_subnets()).collect()
    }

    fn update_exits(&mut self, exits: BTreeMap<Arc<str>, Arc<str>>) -> Vec<Observed> {
        let before = std::mem::replace(&mut self.exits, exits);
        let names: BTreeSet<&Arc<str>> = before.keys().chain(self.exits.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != self.exits.get(*name));
        changed.map(|name| Observed { object: Object::Subnet(Arc::clone(name)), change: Change::Decides }).collect()
    }

    fn all_subnets(&self) -> Vec<Observed> {
        let subnets = self.subnets.keys().cloned().map(Object::Subnet);
        subnets.map(|object| Observed { object, change: Change::Decides }).collect()
    }

    fn index(&mut self, observed: &[Observed]) {
        for Observed { object, .. } in observed {
            let Object::Pod(port) = object else { return };
            let Some((_, namespace)) = api::pod_of_port(port) else { continue };
            if self.pods.contains_key(port) {
                self.pods_of.insert(&namespace.into(), Arc::clone(port));
            } else {
                self.pods_of.remove(namespace, port);
            }
        }
    }
}

#[cfg(test)]
mod tests;
