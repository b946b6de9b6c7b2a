//! The world: decisions about subnets, nodes, pools and ports, and the keys that a change makes dirty.
//!
//! The owner task of the controller is the only writer. Setting an object to its current value marks nothing dirty.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{Addresses, Cidr, Cidrs, SubnetDef};

use crate::exits::{Exits, GatewayNodes};
use crate::objects::{Key, Node, PoolSet, Port, Settings};

/// The state that the northbound database is compiled from.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) subnets: BTreeMap<Arc<str>, SubnetDef>,
    pub(crate) pools: BTreeMap<Arc<str>, PoolSet>,
    pub(crate) nodes: BTreeMap<Arc<str>, Node>,
    pub(crate) ports: BTreeMap<Arc<str>, Port>,
    /// The ways out of centralized subnets.
    pub(crate) exits: Exits,
    /// Reverse index: the ports of each subnet, even if the subnet does not exist.
    ports_of: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Reverse index: the number of ports with each former gateway, by subnet.
    retired_gateways: BTreeMap<Arc<str>, BTreeMap<IpAddr, usize>>,
    /// Reverse index: the number of ports with each set of former networks, by subnet.
    former_networks: BTreeMap<Arc<str>, BTreeMap<Cidrs, usize>>,
    dirty: BTreeSet<Key>,
}

impl World {
    /// An empty world, in which [`Key::Base`] is dirty.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            subnets: BTreeMap::new(),
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ports: BTreeMap::new(),
            exits: Exits::default(),
            ports_of: BTreeMap::new(),
            retired_gateways: BTreeMap::new(),
            former_networks: BTreeMap::new(),
            dirty: BTreeSet::from([Key::Base]),
        }
    }

    /// The names that the installation chose.
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
        // What the rows of ports depend on.
        let of_ports = |subnet: &SubnetDef| (subnet.remote_mirror.clone(), subnet.gateway_type);
        if before.as_ref().map(of_ports) != self.subnets.get(&name).map(of_ports) {
            self.mark_ports_of(&name);
        }
        if name == self.settings.node_switch {
            self.mark_users_of_node_switch();
        }
        self.dirty.insert(Key::Subnet(name));
    }

    /// Removes a subnet. Its ports have no rows until it is set again.
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

    /// Removes the address set of a pool; returns whether it had one.
    pub fn remove_pool(&mut self, name: &str) -> bool {
        let removed = self.pools.remove_entry(name);
        self.dirty.extend(removed.iter().map(|(name, _)| Key::Pool(Arc::clone(name))));
        removed.is_some()
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
            self.mark_node(name);
        }
    }

    /// Removes a node.
    pub fn remove_node(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.mark_node(name);
        }
    }

    /// Sets the gateway nodes of a subnet. They count only while the subnet is centralized. Returns whether they are others than
    /// before.
    pub fn set_gateway_nodes(&mut self, subnet: &Arc<str>, nodes: &GatewayNodes) -> bool {
        let Some(changed) = self.exits.set(subnet, nodes) else { return false };
        self.dirty.extend(changed.nodes.into_iter().map(Key::Node));
        self.dirty.insert(Key::Subnet(Arc::clone(subnet)));
        if changed.any {
            self.dirty.insert(Key::Base);
        }
        true
    }

    /// The gateway nodes of a subnet, the preferred one first. None if it has no way out.
    pub fn gateway_nodes(&self, subnet: &str) -> &[Arc<str>] {
        self.exits.of(subnet).first().map(|way| way.nodes.as_slice()).unwrap_or_default()
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
        self.count_gateway(&port);
        self.count_networks(&port);
        let before = self.ports.insert(Arc::clone(&name), port);
        if let Some(before) = before {
            self.uncount_gateway(&before);
            self.uncount_networks(&before);
            if before.subnet != subnet {
                self.unindex_port(&before.subnet, &name);
            }
        }
        self.ports_of.entry(subnet).or_default().insert(Arc::clone(&name));
        self.dirty.insert(Key::Port(name));
    }

    /// Removes a port.
    pub fn remove_port(&mut self, name: &str) {
        if let Some((name, port)) = self.ports.remove_entry(name) {
            self.uncount_gateway(&port);
            self.uncount_networks(&port);
            self.unindex_port(&port.subnet, &name);
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

    /// The former gateways that ports of a subnet still use.
    pub fn retired_gateways(&self, subnet: &str) -> impl Iterator<Item = IpAddr> {
        self.retired_gateways.get(subnet).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// The former networks that ports of a subnet still use.
    pub fn former_networks(&self, subnet: &str) -> impl Iterator<Item = Cidr> {
        self.former_networks
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

    /// Every key that can have facts, for a compilation from scratch.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        std::iter::once(Key::Base)
            .chain(self.subnets.keys().cloned().map(Key::Subnet))
            .chain(self.pools.keys().cloned().map(Key::Pool))
            .chain(self.nodes.keys().cloned().map(Key::Node))
            .chain(self.ports.keys().cloned().map(Key::Port))
    }

    /// The groups of the subnets whose pods leave by a node name its chassis.
    fn mark_node(&mut self, name: Arc<str>) {
        self.dirty.extend(self.exits.users(&name).cloned().map(Key::Subnet));
        self.dirty.insert(Key::Node(name));
    }

    /// Nodes have a port on the node switch, and private subnets allow traffic from its addresses.
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

    fn count_gateway(&mut self, port: &Port) {
        for address in port.gateway.iter().flat_map(Addresses::iter) {
            let count = self.retired_gateways.entry(Arc::clone(&port.subnet)).or_default().entry(*address).or_default();
            *count += 1;
            if *count == 1 {
                self.dirty.insert(Key::Subnet(Arc::clone(&port.subnet)));
            }
        }
    }

    fn count_networks(&mut self, port: &Port) {
        if let Some(cidrs) = port.cidrs {
            *self.former_networks.entry(Arc::clone(&port.subnet)).or_default().entry(cidrs).or_default() += 1;
        }
    }

    fn uncount_networks(&mut self, port: &Port) {
        let Some(cidrs) = port.cidrs else { return };
        let Some(counts) = self.former_networks.get_mut(&port.subnet) else { return };
        if let Some(count) = counts.get_mut(&cidrs) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&cidrs);
            }
        }
        if counts.is_empty() {
            self.former_networks.remove(&port.subnet);
        }
    }

    fn uncount_gateway(&mut self, port: &Port) {
        for address in port.gateway.iter().flat_map(Addresses::iter) {
            let Some(counts) = self.retired_gateways.get_mut(&port.subnet) else { continue };
            let left = counts.get_mut(address).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                counts.remove(address);
                self.dirty.insert(Key::Subnet(Arc::clone(&port.subnet)));
            }
            if counts.is_empty() {
                self.retired_gateways.remove(&port.subnet);
            }
        }
    }

    fn unindex_port(&mut self, subnet: &str, port: &str) {
        if let Some(ports) = self.ports_of.get_mut(subnet) {
            ports.remove(port);
            if ports.is_empty() {
                self.ports_of.remove(subnet);
            }
        }
    }
}
