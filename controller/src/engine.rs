//! The deciding half of a leader: who gets which address, and what the northbound database shall say.
//!
//! The engine is made anew when this replica starts to lead ([`Engine::recover`]) and thrown away when it stops. It takes
//! names of changed objects ([`Engine::mark`]), decides about them ([`Engine::decide`]) and keeps the outcome as facts,
//! ready for `sync`. What users are to see of it is told by [`crate::publish`]'s writes, made in `visible`.
//!
//! No I/O: everything it needs is in the [`Cluster`] it is shown. One object that makes no sense is refused with its name
//! and field, and nothing else is held up by it.

mod bindings;
mod gateways;
mod namespaces;
mod nodes;
mod own_networks;
mod pods;
mod pools;
mod recover;
mod remarks;
mod retention;
mod subnets;
mod waiting;

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
pub use namespaces::Wish;
pub use pods::Refused;
pub use pools::{PoolVerdict, wishes_for_pools};
pub use subnets::Verdict;
use waiting::Waiting;

/// What the install chose, once and for all.
#[derive(Debug, Clone)]
pub struct Install {
    /// The router's and the join switch's names.
    pub settings: Settings,
    /// The subnet of namespaces that are bound to none.
    pub default_subnet: Arc<str>,
    /// The service range, which no subnet may overlap.
    pub services: Cidrs,
    /// How the default subnet is made when it is missing.
    pub default_net: NewSubnet,
    /// How the join subnet is made when it is missing.
    pub join_net: NewSubnet,
}

/// A subnet to make when it is missing.
#[derive(Debug, Clone)]
pub struct NewSubnet {
    /// Its networks.
    pub cidrs: Cidrs,
    /// Its gateway, else the first address.
    pub gateway: Option<Addresses>,
    /// What it never gives out.
    pub exclude: Vec<IpRange>,
}

/// A leader's decisions so far.
#[derive(Debug)]
pub struct Engine {
    install: Install,
    ipam: Ipam,
    world: World,
    facts: Facts,
    /// The facts that each key wants now, so that they can be taken back.
    compiled: HashMap<Key, Box<[Fact]>>,
    verdicts: BTreeMap<Arc<str>, Verdict>,
    /// Which subnets are bound to which namespaces.
    bindings: Bindings,
    /// The subnets that namespaces ask for and are not bound to yet.
    wishes: HashMap<Arc<str>, Wish>,
    /// Reverse index: the namespaces that ask for each subnet.
    wishers: Sets<Arc<str>>,
    /// For each subnet in force: the generation of the spec that it is from.
    generations: BTreeMap<Arc<str>, i64>,
    /// What namespaces that are bound to no subnet show of the default one.
    shown_default: Option<BTreeMap<String, String>>,
    /// The subnets that bind namespaces by label, and what they select.
    selecting: BTreeMap<Arc<str>, Vec<LabelSelector>>,
    pools: BTreeMap<Arc<str>, pools::Pool>,
    /// The pools of each subnet, those that are not in force too.
    pools_of: Sets<Arc<str>>,
    /// Which pools list which namespaces.
    pool_bindings: Bindings,
    /// Pods and nodes that have no address, and why.
    refused: HashMap<Object, Refused>,
    /// What each node uses itself.
    own_networks: BTreeMap<Arc<str>, own_networks::Own>,
    /// The node that has each of the nodes' own addresses.
    node_addresses: BTreeMap<IpAddr, Arc<str>>,
    /// The nodes that have another one's address.
    contenders: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    /// Gateways and networks of earlier that pods were given, by the database when this leader began.
    recorded_gateways: HashMap<Arc<str>, Addresses>,
    recorded_networks: HashMap<Arc<str>, Cidrs>,
    /// Whether port security was in force, by the database, of pods whose annotation could not be read when this leader began.
    recorded_security: HashMap<Arc<str>, bool>,
    /// The places in stateful sets whose pods hold an address, or held one and are expected back.
    members: HashMap<Arc<str>, Member>,
    /// The ports of each stateful set among them.
    ports_of_set: Sets<Arc<str>>,
    /// The pods and nodes that have no address until something changes.
    waiting: Waiting,
    undecided: BTreeSet<Object>,
    decided: BTreeSet<Object>,
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
            shown_default: None,
            selecting: BTreeMap::new(),
            pools: BTreeMap::new(),
            pools_of: Sets::default(),
            pool_bindings: Bindings::default(),
            refused: HashMap::new(),
            own_networks: BTreeMap::new(),
            node_addresses: BTreeMap::new(),
            contenders: BTreeMap::new(),
            recorded_gateways: HashMap::new(),
            recorded_networks: HashMap::new(),
            recorded_security: HashMap::new(),
            members: HashMap::new(),
            ports_of_set: Sets::default(),
            waiting: Waiting::default(),
            undecided: BTreeSet::new(),
            decided: BTreeSet::new(),
        }
    }

    /// Something about this object changed.
    pub fn mark(&mut self, object: Object) {
        self.undecided.insert(object);
    }

    /// Decides about everything marked, and about whatever that makes undecided in turn; then brings the facts up to date.
    pub fn decide(&mut self, cluster: &Cluster) {
        while let Some(object) = self.undecided.pop_first() {
            let turn = self.waiting.leave(&object);
            match &object {
                Object::Subnet(name) => self.decide_subnet(cluster, name),
                Object::IpPool(name) => self.decide_pool(cluster, name),
                Object::Namespace(name) => self.decide_namespace(cluster, name),
                Object::Node(name) => self.decide_node(cluster, name),
                Object::StatefulSet(path) => self.decide_stateful_set(path),
                Object::Pod(port) => self.decide_pod(cluster, port),
                Object::Ip(name) => self.decide_ip(cluster, name),
            }
            if let Some(line) = turn {
                self.undecided.extend(self.waiting.next(&object, &line));
            }
            self.decided.insert(object);
        }
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

    /// The objects that were decided about since the last call: what users see of them may have to change. Only to be
    /// shown after the database has taken the facts.
    pub fn take_decided(&mut self) -> BTreeSet<Object> {
        std::mem::take(&mut self.decided)
    }

    /// Objects that cannot be shown yet, to be shown after a later commit.
    pub fn put_back(&mut self, decided: impl IntoIterator<Item = Object>) {
        self.decided.extend(decided);
    }

    /// The facts, for `sync`.
    pub fn facts(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// What the install chose.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// A subnet in force.
    pub fn subnet(&self, name: &str) -> Option<&SubnetDef> {
        self.world.subnet(name)
    }

    /// The generation of the spec that a subnet in force is from; 0 when that is not known.
    pub fn generation(&self, name: &str) -> i64 {
        self.generations.get(name).copied().unwrap_or_default()
    }

    /// What was found about a subnet.
    pub fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.verdicts.get(name)
    }

    /// The address that a port holds, and the subnet it is from.
    pub fn lease(&self, port: &str) -> Option<(&str, Lease)> {
        self.ipam.lease(port)
    }

    /// The address that this very pod holds, not a namesake of it, and the subnet it is from.
    pub fn lease_of(&self, pod: &Pod) -> Option<(&str, Lease)> {
        self.world.port(&pod.port).filter(|port| port.uid == pod.uid).and_then(|_| self.lease(&pod.port))
    }

    /// The gateway that a port was given, when the subnet's is another one by now.
    pub fn given(&self, port: &str) -> Option<Addresses> {
        self.world.port(port)?.gateway
    }

    /// Why a pod or a node has no address.
    pub fn refused(&self, object: &Object) -> Option<&Refused> {
        self.refused.get(object)
    }

    /// How full a subnet is, in numbers.
    pub fn counts(&self, subnet: &str) -> Option<ipam::Usage> {
        self.ipam.usage(subnet)
    }

    /// How full a subnet is, in numbers and in ranges; takes time by the number of addresses in use.
    pub fn usage(&self, subnet: &str) -> Option<(ipam::Usage, ipam::Ranges)> {
        Some((self.ipam.usage(subnet)?, self.ipam.ranges(subnet)?))
    }

    /// A subnet or a pool is not what it was, or a holder has nothing any more: who waits for it is decided about again.
    fn wake(&mut self, object: &Object) {
        self.undecided.extend(self.waiting.dissolve(object));
    }

    /// Takes a port's address back and lets those try who could be served now.
    fn release(&mut self, port: &str) {
        self.world.remove_port(port);
        self.recorded_gateways.remove(port);
        self.recorded_networks.remove(port);
        self.recorded_security.remove(port);
        self.forget_member(port);
        // A subnet may have waited for the port's name.
        let suffix = format!("-{}", self.install.settings.router);
        if let Some(subnet) = port.strip_suffix(&suffix).filter(|subnet| self.verdicts.contains_key(*subnet)) {
            self.undecided.insert(Object::Subnet(subnet.into()));
        }
        if let Some((subnet, lease)) = self.ipam.release(port) {
            self.keep_gateways(&subnet);
            self.tell_pools_of(lease);
            self.wake(&Object::Ip(port.into()));
            self.undecided.extend(self.waiting.call(&Object::Subnet(Arc::clone(&subnet))));
            // A subnet that is on its way out may have waited for just this one.
            let settled = self.verdicts.get(&subnet) == Some(&Verdict::Valid);
            let objects = if settled { &mut self.decided } else { &mut self.undecided };
            objects.insert(Object::Subnet(subnet));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
