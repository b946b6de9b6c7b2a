//! The objects of a world, and the keys of their facts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::annotations::Limit;
use api::{Addresses, Cidrs, Family, IpRange, Mac};
use ovn::Group;

/// Names that the installation chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The logical router that connects all switches; `ovn-cluster` by default.
    pub router: Arc<str>,
    /// The subnet and logical switch with the `ovn0` of every node; `join` by default.
    pub node_switch: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { router: "ovn-cluster".into(), node_switch: "join".into() }
    }
}

/// A node with its address on the join switch, or an external host, which has one, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name of the Node or `ExternalHost`.
    pub name: Arc<str>,
    /// Its uid; seeds the ids of new rows.
    pub uid: Arc<str>,
    /// The addresses of its `ovn0`, one per family of the join subnet.
    pub join: Addresses,
    /// The MAC address of its `ovn0`.
    pub mac: Mac,
    /// The name of its chassis. `None` before it is known.
    pub chassis: Option<Arc<str>>,
    /// Its own addresses (`InternalIP`), of either family.
    pub internal: BTreeSet<IpAddr>,
    /// Whether it is an external host: no pod runs on it or leaves by it, and private subnets do not
    /// take it for a node.
    pub external: bool,
}

impl Node {
    /// Its own addresses at which pods reach it, each with the address of its `ovn0` that leads there. There are none of a
    /// family that the join subnet does not have.
    pub fn reached_by(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.internal.iter().filter_map(|own| Some((*own, *self.join.get(Family::of(*own))?)))
    }
}

/// A pod's port and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The logical switch port's name, `<pod>.<namespace>`.
    pub name: Arc<str>,
    /// The Pod's uid; seeds the ids of new rows.
    pub uid: Arc<str>,
    /// `<namespace>/<pod>`, the value of `external_ids:pod`.
    pub pod: Arc<str>,
    /// The node that the pod is bound to.
    pub node: Arc<str>,
    /// The subnet of the address.
    pub subnet: Arc<str>,
    /// One address per family.
    pub ips: Addresses,
    /// The interface's MAC address.
    pub mac: Mac,
    /// Whether the port may send only from its own addresses, and no answers of DHCP servers.
    pub port_security: bool,
    /// Whether the pod's annotation says that its packets are mirrored.
    pub mirrored: bool,
    /// The next hop of traffic that leaves the cluster, if it is not the gateway of the subnet.
    pub north_gateway: Option<Addresses>,
    /// The limit of traffic into the pod.
    pub ingress: Option<Limit>,
    /// The limit of traffic out of the pod.
    pub egress: Option<Limit>,
    /// The gateway that the pod was given, if it is not the current gateway of the subnet. The router answers for it
    /// while such a port exists.
    pub gateway: Option<Addresses>,
    /// The networks that the pod was given, if they are not the current ones. The pod cannot reach the first and the
    /// last address of these networks.
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

/// A unit of compilation: one object and its facts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The facts that exist without any object: the router and the address sets.
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
    /// The group of the key's facts, which are written in one transaction. The group of a port has the port's name, which
    /// contains no `/`.
    pub fn group(&self) -> Group {
        match self {
            Self::Base => Group::new("base"),
            Self::Subnet(name) => Group::new(format!("subnet/{name}")),
            Self::Pool(name) => Group::new(format!("ippool/{name}")),
            Self::Node(name) => Group::new(format!("node/{name}")),
            Self::Port(name) => Group::new(Arc::clone(name)),
        }
    }
}
