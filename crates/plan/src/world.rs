//! The world: decided facts about subnets, nodes and ports, and what an event makes dirty.
//!
//! The owner (one task of the controller) is the only writer. Setting a thing to what it is already marks nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{Addresses, Cidr, Cidrs, IpRange, Mac, SubnetDef};
use ovn::Group;

/// Names that the install chooses once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The one logical router that ties all switches together; `ovn-cluster` unless asked otherwise.
    pub router: Arc<str>,
    /// The subnet, and logical switch, on which every node has its `ovn0`; `join` unless asked otherwise.
    pub node_switch: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { router: "ovn-cluster".into(), node_switch: "join".into() }
    }
}

/// A node with its place on the join switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The Node's name.
    pub name: Arc<str>,
    /// The Node's uid; seeds the ids of new rows.
    pub uid: Arc<str>,
    /// The addresses of its `ovn0`, one per family of the join subnet.
    pub join: Addresses,
    /// The MAC address of its `ovn0`.
    pub mac: Mac,
    /// Its own addresses outside the pod network (`InternalIP`), of either family.
    pub internal: BTreeSet<IpAddr>,
}

/// A pod's port with the address that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The logical switch port's name, `<pod>.<namespace>`.
    pub name: Arc<str>,
    /// The Pod's uid; seeds the ids of new rows.
    pub uid: Arc<str>,
    /// `<namespace>/<pod>`, for `external_ids:pod`.
    pub pod: Arc<str>,
    /// The subnet that the address is from.
    pub subnet: Arc<str>,
    /// One address per family of the subnet.
    pub ips: Addresses,
    /// The interface's MAC address.
    pub mac: Mac,
    /// Whether the port may send from its own addresses only.
    pub port_security: bool,
    /// The gateway that the pod was given, when the subnet's is another one by now. The router answers for it as long as
    /// such a port exists.
    pub gateway: Option<Addresses>,
    /// The networks that the pod was given, when the subnet's are others by now: it reaches neither end of these.
    pub cidrs: Option<Cidrs>,
}

/// The address set of an IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSet {
    /// The pool's name.
    pub name: Arc<str>,
    /// The pool's uid; seeds the id of a new row.
    pub uid: Arc<str>,
    /// The pool's addresses.
    pub ranges: Vec<IpRange>,
}

/// What is compiled on its own: one object, one set of facts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What exists without any object: the router and the address sets.
    Base,
    /// A subnet, by name.
    Subnet(Arc<str>),
    /// An IPPool with an address set, by name.
    Pool(Arc<str>),
    /// A node, by name.
    Node(Arc<str>),
    /// A pod's port, by port name.
    Port(Arc<str>),
}

impl Key {
    /// The group of the key's facts: they are written together or not at all. A port's has the port's name, which has no
    /// `/`.
    pub fn group(&self) -> Group {
        match self {
            Key::Base => Group::new("base"),
            Key::Subnet(name) => Group::new(format!("subnet/{name}")),
            Key::Pool(name) => Group::new(format!("ippool/{name}")),
            Key::Node(name) => Group::new(format!("node/{name}")),
            Key::Port(name) => Group::new(Arc::clone(name)),
        }
    }
}

/// Everything that the northbound database is compiled from.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) subnets: BTreeMap<Arc<str>, SubnetDef>,
    pub(crate) pools: BTreeMap<Arc<str>, PoolSet>,
    pub(crate) nodes: BTreeMap<Arc<str>, Node>,
    pub(crate) ports: BTreeMap<Arc<str>, Port>,
    /// Reverse index: the ports of each subnet, whether that subnet is known or not.
    ports_of: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Reverse index: how many ports of each subnet were given each gateway of earlier.
    retired: BTreeMap<Arc<str>, BTreeMap<IpAddr, usize>>,
    /// Reverse index: how many ports of each subnet were given each network of earlier.
    outgrown: BTreeMap<Arc<str>, BTreeMap<Cidrs, usize>>,
    dirty: BTreeSet<Key>,
}

impl World {
    /// An empty world; [`Key::Base`] is dirty from the start.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            subnets: BTreeMap::new(),
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ports: BTreeMap::new(),
            ports_of: BTreeMap::new(),
            retired: BTreeMap::new(),
            outgrown: BTreeMap::new(),
            dirty: BTreeSet::from([Key::Base]),
        }
    }

    /// The names that the install chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds or changes a subnet.
    pub fn set_subnet(&mut self, subnet: SubnetDef) {
        let name: Arc<str> = subnet.name.as_str().into();
        let before = self.subnets.insert(Arc::clone(&name), subnet);
        if before.as_ref() == self.subnets.get(&name) {
            return;
        }
        if before.is_none() {
            self.mark_ports_of(&name);
        }
        if name == self.settings.node_switch {
            self.mark_users_of_node_switch();
        }
        self.dirty.insert(Key::Subnet(name));
    }

    /// Removes a subnet. Its ports lose their rows with it and get them back if it returns.
    pub fn remove_subnet(&mut self, name: &str) {
        if let Some((name, _)) = self.subnets.remove_entry(name) {
            self.mark_ports_of(&name);
            if name == self.settings.node_switch {
                self.mark_users_of_node_switch();
            }
            self.dirty.insert(Key::Subnet(name));
        }
    }

    /// A subnet by name.
    pub fn subnet(&self, name: &str) -> Option<&SubnetDef> {
        self.subnets.get(name)
    }

    /// All subnets, by name.
    pub fn subnets(&self) -> impl Iterator<Item = &SubnetDef> {
        self.subnets.values()
    }

    /// Adds or changes the address set of a pool.
    pub fn set_pool(&mut self, pool: PoolSet) {
        let name = Arc::clone(&pool.name);
        let before = self.pools.insert(Arc::clone(&name), pool);
        if before.as_ref() != self.pools.get(&name) {
            self.dirty.insert(Key::Pool(name));
        }
    }

    /// Removes the address set of a pool.
    pub fn remove_pool(&mut self, name: &str) {
        if let Some((name, _)) = self.pools.remove_entry(name) {
            self.dirty.insert(Key::Pool(name));
        }
    }

    /// The names of the pools that have address sets.
    pub fn pool_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.keys()
    }

    /// Adds or changes a node.
    pub fn set_node(&mut self, node: Node) {
        let name = Arc::clone(&node.name);
        let before = self.nodes.insert(Arc::clone(&name), node);
        if before.as_ref() != self.nodes.get(&name) {
            self.dirty.insert(Key::Node(name));
        }
    }

    /// Removes a node.
    pub fn remove_node(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.dirty.insert(Key::Node(name));
        }
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Adds or changes a port.
    pub fn set_port(&mut self, port: Port) {
        let name = Arc::clone(&port.name);
        let subnet = Arc::clone(&port.subnet);
        if self.ports.get(&name) == Some(&port) {
            return;
        }
        self.use_gateway(&port);
        self.use_networks(&port);
        let before = self.ports.insert(Arc::clone(&name), port);
        if let Some(before) = before {
            self.leave_gateway(&before);
            self.leave_networks(&before);
            if before.subnet != subnet {
                self.forget_port_of(&before.subnet, &name);
            }
        }
        self.ports_of.entry(subnet).or_default().insert(Arc::clone(&name));
        self.dirty.insert(Key::Port(name));
    }

    /// Removes a port.
    pub fn remove_port(&mut self, name: &str) {
        if let Some((name, port)) = self.ports.remove_entry(name) {
            self.leave_gateway(&port);
            self.leave_networks(&port);
            self.forget_port_of(&port.subnet, &name);
            self.dirty.insert(Key::Port(name));
        }
    }

    /// A port by its name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.get(name)
    }

    /// The names of a subnet's ports.
    pub fn ports_of(&self, subnet: &str) -> impl Iterator<Item = &Arc<str>> {
        self.ports_of.get(subnet).into_iter().flatten()
    }

    /// The gateways of earlier that ports of a subnet were given.
    pub fn retired_gateways(&self, subnet: &str) -> impl Iterator<Item = IpAddr> {
        self.retired.get(subnet).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// The networks of earlier that ports of a subnet were given.
    pub fn outgrown_networks(&self, subnet: &str) -> impl Iterator<Item = Cidr> {
        self.outgrown
            .get(subnet)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .flat_map(|cidrs| cidrs.iter().copied().collect::<Vec<_>>())
    }

    /// The names of all nodes.
    pub fn node_names(&self) -> impl Iterator<Item = Arc<str>> {
        self.nodes.keys().cloned()
    }

    /// The keys whose facts may have changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.dirty)
    }

    /// Whether any key is dirty.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Every key that has facts, for a compile from scratch.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        std::iter::once(Key::Base)
            .chain(self.subnets.keys().cloned().map(Key::Subnet))
            .chain(self.pools.keys().cloned().map(Key::Pool))
            .chain(self.nodes.keys().cloned().map(Key::Node))
            .chain(self.ports.keys().cloned().map(Key::Port))
    }

    /// Nodes have their port there, and private subnets let its addresses in.
    fn mark_users_of_node_switch(&mut self) {
        self.dirty.extend(self.nodes.keys().cloned().map(Key::Node));
        let private = self.subnets.iter().filter(|(_, subnet)| subnet.private);
        self.dirty.extend(private.map(|(name, _)| Key::Subnet(Arc::clone(name))));
    }

    fn mark_ports_of(&mut self, subnet: &str) {
        if let Some(ports) = self.ports_of.get(subnet) {
            self.dirty.extend(ports.iter().cloned().map(Key::Port));
        }
    }

    fn use_gateway(&mut self, port: &Port) {
        for address in port.gateway.iter().flat_map(Addresses::iter) {
            let count = self.retired.entry(Arc::clone(&port.subnet)).or_default().entry(*address).or_default();
            *count += 1;
            if *count == 1 {
                self.dirty.insert(Key::Subnet(Arc::clone(&port.subnet)));
            }
        }
    }

    fn use_networks(&mut self, port: &Port) {
        if let Some(cidrs) = port.cidrs {
            *self.outgrown.entry(Arc::clone(&port.subnet)).or_default().entry(cidrs).or_default() += 1;
        }
    }

    fn leave_networks(&mut self, port: &Port) {
        let Some(cidrs) = port.cidrs else { return };
        let Some(counts) = self.outgrown.get_mut(&port.subnet) else { return };
        if let Some(count) = counts.get_mut(&cidrs) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&cidrs);
            }
        }
        if counts.is_empty() {
            self.outgrown.remove(&port.subnet);
        }
    }

    fn leave_gateway(&mut self, port: &Port) {
        for address in port.gateway.iter().flat_map(Addresses::iter) {
            let Some(counts) = self.retired.get_mut(&port.subnet) else { continue };
            let left = counts.get_mut(address).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                counts.remove(address);
                self.dirty.insert(Key::Subnet(Arc::clone(&port.subnet)));
            }
            if counts.is_empty() {
                self.retired.remove(&port.subnet);
            }
        }
    }

    fn forget_port_of(&mut self, subnet: &str, port: &str) {
        if let Some(ports) = self.ports_of.get_mut(subnet) {
            ports.remove(port);
            if ports.is_empty() {
                self.ports_of.remove(subnet);
            }
        }
    }
}
