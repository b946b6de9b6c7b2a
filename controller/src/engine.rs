//! The decisions of a leader: the address of each pod and node, and the facts for the northbound database.
//!
//! A new engine is created when this replica starts to lead ([`Engine::recover`]) and dropped when it stops.
//! [`Engine::mark`] takes the names of changed objects, [`Engine::decide`] decides about them. The results are the
//! facts for `sync` and the set of unpublished objects, for which `visible` computes the writes to the API server.
//!
//! The engine does no I/O and reads only the [`Cluster`] that it is given. An invalid object is refused with a message
//! that names the object and the field; it does not block others.

mod bindings;
mod exits;
mod gateways;
mod limits;
mod namespaces;
mod nodes;
mod own_networks;
mod pods;
mod pools;
mod recover;
mod remarks;
mod retention;
mod sources;
mod subnets;
mod wait_queues;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use api::{Addresses, Cidrs, IpRange, SubnetDef};
use ipam::{Ipam, Lease};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ovn::Fact;
use plan::{Key, Settings, World};
use sync::Facts;

use crate::cluster::{Cluster, Member, Object, Pod};
use crate::sets::Sets;

use bindings::Bindings;
use exits::Exits;
pub use exits::GatewayState;
use limits::{DefaultLimits, PodLimits};
pub use namespaces::Wish;
pub use pods::NoAddress;
pub use pools::{PoolVerdict, wishes_for_pools};
pub use remarks::IGNORED;
pub use subnets::Verdict;
use wait_queues::WaitQueues;

/// The settings of the installation, from the command line.
#[derive(Debug, Clone)]
pub struct Install {
    /// The names of the router and the join subnet.
    pub settings: Settings,
    /// The subnet of namespaces that are bound to no other subnet.
    pub default_subnet: Arc<str>,
    /// Whether a southbound database is configured, from which the controller reads the nodes' own networks.
    pub southbound: bool,
    /// Whether pods without an annotation have port security.
    pub port_security: bool,
    /// The service range. No subnet may overlap it.
    pub services: Cidrs,
    /// The default subnet, if it must be created.
    pub default_net: NewSubnet,
    /// The join subnet, if it must be created.
    pub join_net: NewSubnet,
}

/// The definition of a subnet to create.
#[derive(Debug, Clone)]
pub struct NewSubnet {
    /// Its networks.
    pub cidrs: Cidrs,
    /// Its gateway; the first address if `None`.
    pub gateway: Option<Addresses>,
    /// Addresses that are never assigned.
    pub exclude: Vec<IpRange>,
}

/// The decisions of a leader.
#[derive(Debug)]
pub struct Engine {
    install: Install,
    ipam: Ipam,
    world: World,
    facts: Facts,
    /// The current facts of each key, to remove them when they change.
    compiled: HashMap<Key, Box<[Fact]>>,
    verdicts: BTreeMap<Arc<str>, Verdict>,
    /// The namespaces that are bound to each subnet.
    bindings: Bindings,
    /// The subnets that namespaces ask for by annotation and are not yet bound to.
    wishes: HashMap<Arc<str>, Wish>,
    /// Reverse index: the namespaces that ask for each subnet.
    wishers: Sets<Arc<str>>,
    /// The generation of the spec that each subnet in force comes from.
    generations: BTreeMap<Arc<str>, i64>,
    /// The annotations of namespaces that belong to the default subnet.
    default_annotations: Option<BTreeMap<String, String>>,
    /// The label selectors of subnets that bind namespaces by label.
    selectors: BTreeMap<Arc<str>, Vec<LabelSelector>>,
    pools: BTreeMap<Arc<str>, pools::Pool>,
    /// The pools of each subnet, including pools that are not in force.
    pools_of: Sets<Arc<str>>,
    /// The namespaces that are bound to each pool.
    pool_bindings: Bindings,
    /// Why pods and nodes have no address, and why new pods of a namespace would get none.
    no_address: HashMap<Object, NoAddress>,
    /// The networks and addresses of each node.
    own_networks: BTreeMap<Arc<str>, own_networks::NodeNetworks>,
    /// The owner of each `InternalIP` of a node.
    node_addresses: BTreeMap<IpAddr, Arc<str>>,
    /// The nodes that have an address that another node owns.
    contenders: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    /// Former gateways and networks that pods were given, from the database at the start of the term.
    recorded_gateways: HashMap<Arc<str>, Addresses>,
    recorded_networks: HashMap<Arc<str>, Cidrs>,
    /// Port security in the database, for pods whose annotation cannot be read, until the new leader has decided about all
    /// pods.
    recorded_security: HashMap<Arc<str>, bool>,
    /// The next hops of pods in the database, of those whose annotation cannot be read, until then.
    recorded_north_gateways: HashMap<Arc<str>, Addresses>,
    /// Likewise, whether ports were mirrored.
    recorded_mirrored: HashMap<Arc<str>, bool>,
    /// The limits of the ports in the database, until the new leader has decided about all pods.
    recorded_limits: HashMap<Arc<str>, PodLimits>,
    /// The default limits that namespaces and Subnets set for their pods.
    default_limits: HashMap<Object, DefaultLimits>,
    /// The stateful set and ordinal of pods that hold an address, or held one and are expected back.
    members: HashMap<Arc<str>, Member>,
    /// Reverse index: the ports in `members` of each stateful set.
    ports_of_set: Sets<Arc<str>>,
    /// The pods and nodes that wait for an address.
    wait_queues: WaitQueues,
    exits: Exits,
    undecided: BTreeSet<Object>,
    /// The refused subnets are undecided as well.
    reconsider: bool,
    unpublished: BTreeSet<Object>,
}

impl Engine {
    fn new(install: Install) -> Self {
        Self {
            world: World::new(install.settings.clone()),
            install,
            ipam: Ipam::default(),
            facts: Facts::default(),
            compiled: HashMap::new(),
            verdicts: BTreeMap::new(),
            bindings: Bindings::default(),
            wishes: HashMap::new(),
            wishers: Sets::default(),
            generations: BTreeMap::new(),
            default_annotations: None,
            selectors: BTreeMap::new(),
            pools: BTreeMap::new(),
            pools_of: Sets::default(),
            pool_bindings: Bindings::default(),
            no_address: HashMap::new(),
            own_networks: BTreeMap::new(),
            node_addresses: BTreeMap::new(),
            contenders: BTreeMap::new(),
            recorded_gateways: HashMap::new(),
            recorded_networks: HashMap::new(),
            recorded_security: HashMap::new(),
            recorded_north_gateways: HashMap::new(),
            recorded_mirrored: HashMap::new(),
            recorded_limits: HashMap::new(),
            default_limits: HashMap::new(),
            members: HashMap::new(),
            ports_of_set: Sets::default(),
            wait_queues: WaitQueues::default(),
            exits: Exits::default(),
            undecided: BTreeSet::new(),
            reconsider: false,
            unpublished: BTreeSet::new(),
        }
    }

    /// Marks an object as changed, so that it is decided again.
    pub fn mark(&mut self, object: Object) {
        self.undecided.insert(object);
    }

    /// Decides about all marked objects and all objects that these decisions affect. Then updates the facts.
    pub fn decide(&mut self, cluster: &Cluster) {
        while let Some(object) = self.next_undecided() {
            let woken_in = self.wait_queues.remove(&object);
            match &object {
                Object::Subnet(name) => self.decide_subnet(cluster, name),
                Object::IpPool(name) => self.decide_pool(cluster, name),
                Object::Namespace(name) => self.decide_namespace(cluster, name),
                Object::Node(name) | Object::ExternalHost(name) => self.decide_machine(cluster, name),
                Object::StatefulSet(path) => self.decide_stateful_set(path),
                Object::Pod(port) => self.decide_pod(cluster, port),
                Object::Ip(name) => self.decide_ip(cluster, name),
            }
            if let Some(queue) = woken_in {
                self.undecided.extend(self.wait_queues.wake_next(&object, &queue));
            }
            self.unpublished.insert(object);
        }
        self.update_exits(cluster);
        for key in self.world.take_dirty() {
            let (group, facts) = (key.group(), self.world.compile(&key));
            for fact in &facts {
                self.facts.add_to(&group, fact.clone());
            }
            let now = (!facts.is_empty()).then(|| facts.into_boxed_slice());
            let before = match now {
                Some(facts) => self.compiled.insert(key, facts),
                None => self.compiled.remove(&key),
            };
            for fact in before.iter().flatten() {
                self.facts.remove_from(&group, fact);
            }
        }
    }

    /// The next object to decide about. Refused subnets come after all others, once for all that may let them come into force:
    /// a new leader sees all nodes at once.
    fn next_undecided(&mut self) -> Option<Object> {
        if self.undecided.is_empty() && std::mem::take(&mut self.reconsider) {
            let refused = self.verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Invalid { .. }));
            self.undecided.extend(refused.map(|(name, _)| Object::Subnet(Arc::clone(name))));
        }
        self.undecided.pop_first()
    }

    /// The objects whose state in the API server may have to change since the last call. Publish them only after the
    /// database has committed the facts.
    pub fn take_unpublished(&mut self) -> BTreeSet<Object> {
        std::mem::take(&mut self.unpublished)
    }

    /// The objects that [`Self::take_unpublished`] will return.
    pub fn unpublished(&self) -> impl Iterator<Item = &Object> {
        self.unpublished.iter()
    }

    /// Marks objects to be published after the next commit.
    pub fn mark_unpublished(&mut self, objects: impl IntoIterator<Item = Object>) {
        self.unpublished.extend(objects);
    }

    /// The facts, for `sync`.
    pub fn facts(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// The settings of the installation.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// The definition in force of a subnet.
    pub fn subnet(&self, name: &str) -> Option<&SubnetDef> {
        self.world.subnet(name)
    }

    /// The generation of the spec that a subnet in force comes from; 0 if unknown.
    pub fn generation(&self, name: &str) -> i64 {
        self.generations.get(name).copied().unwrap_or_default()
    }

    /// The verdict on a subnet.
    pub fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.get(name)
    }

    /// The subnet and addresses of a port.
    pub fn lease(&self, port: &str) -> Option<(&str, Lease)> {
        self.ipam.lease(port)
    }

    /// The subnet and addresses of this pod. `None` if they belong to another pod of the same name.
    pub fn lease_of(&self, pod: &Pod) -> Option<(&str, Lease)> {
        self.world.port(&pod.port).filter(|port| port.uid == pod.uid).and_then(|_| self.lease(&pod.port))
    }

    /// The gateway that a port was given, if it is not the current gateway of the subnet.
    pub fn gateway_given_to(&self, port: &str) -> Option<Addresses> {
        self.world.port(port)?.gateway
    }

    /// The own addresses of a node at which pods reach it.
    pub fn node_addresses(&self, node: &str) -> impl Iterator<Item = IpAddr> + '_ {
        self.world.node(node).into_iter().flat_map(plan::Node::reached_by).map(|(own, _)| own)
    }

    /// Why a pod or a node has no address, or why new pods of a namespace get none.
    pub fn no_address(&self, object: &Object) -> Option<&NoAddress> {
        self.no_address.get(object)
    }

    /// The usage of a subnet as counts.
    pub fn counts(&self, subnet: &str) -> Option<ipam::Usage> {
        self.ipam.usage(subnet)
    }

    /// The usage of a subnet as counts and ranges. The time grows with the number of ranges, not of
    /// addresses.
    pub fn usage(&self, subnet: &str) -> Option<(ipam::Usage, ipam::Ranges)> {
        Some((self.ipam.usage(subnet)?, self.ipam.ranges(subnet)?))
    }

    /// Decides again about all objects that wait for a subnet, a pool or a holder of an address that has changed.
    fn wake_waiting(&mut self, object: &Object) {
        self.undecided.extend(self.wait_queues.wake_all(object));
    }

    /// Releases the address of a port and wakes the first waiting objects.
    fn release(&mut self, port: &str) {
        self.world.remove_port(port);
        self.recorded_gateways.remove(port);
        self.recorded_networks.remove(port);
        self.recorded_security.remove(port);
        self.recorded_north_gateways.remove(port);
        self.recorded_mirrored.remove(port);
        self.recorded_limits.remove(port);
        self.forget_member(port);
        // A subnet can wait for the port's name.
        if let Some(subnet) = self.subnet_with_port(port).filter(|subnet| self.verdicts.contains_key(*subnet)) {
            self.undecided.insert(Object::Subnet(subnet.into()));
        }
        if let Some((subnet, lease)) = self.ipam.release(port) {
            // A former gateway that nobody uses any more is free as well.
            let freed = Some(lease.ips).filter(|_| !self.update_retired_gateways(&subnet));
            self.republish_pools_of(lease);
            self.wake_waiting(&Object::Ip(port.into()));
            self.undecided.extend(self.wait_queues.wake_first(&Object::Subnet(Arc::clone(&subnet)), freed.as_ref()));
            // A subnet that is being deleted or given away may wait for its last address.
            let settled = self.verdicts.get(&subnet) == Some(&Verdict::Valid);
            let objects = if settled { &mut self.unpublished } else { &mut self.undecided };
            objects.insert(Object::Subnet(subnet));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
