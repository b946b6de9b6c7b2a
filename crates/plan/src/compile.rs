//! Compiles one key to its facts. Each kind of object has its own module, which does not depend on the facts of other
//! keys.

mod acls;
mod base;
mod exit;
mod mirror;
mod node;
mod pool;
mod port;
mod private;
mod security;
mod subnet;

use api::{Addresses, Mac};
use ovn::Fact;

use crate::objects::Key;
use crate::world::World;

/// Router policy: traffic to a subnet is routed by the router's connected routes.
const PRIORITY_TO_SUBNET: u16 = 31000;
/// Router policy: traffic to a node's own address goes to the node's `ovn0`.
const PRIORITY_TO_NODE: u16 = 30000;
/// Router policy: the traffic of a pod of a distributed subnet leaves by the next hop that its annotation names.
const PRIORITY_NORTH_GATEWAY: u16 = 29250;
/// Router policy: all other traffic leaves through a gateway.
const PRIORITY_GATEWAY: u16 = 29000;

/// The tier of the ACLs in the spec of a Subnet. All other ACLs are in tier 0.
const TIER_OF_SUBNET: u8 = 1;

/// ACL of a private subnet: allow traffic from external hosts that are in the allowed networks.
const PRIORITY_FROM_ALLOWED_HOSTS: u16 = 3002;
/// ACL of a private subnet: drop other traffic from external hosts. Their addresses on the join switch look like those of
/// nodes.
const PRIORITY_FROM_HOSTS: u16 = 3001;
/// ACL of a private subnet: allow traffic from nodes.
const PRIORITY_FROM_NODES: u16 = 3000;
/// ACL of a private subnet: allow traffic within the subnet and with the allowed networks.
const PRIORITY_TALKS_WITH: u16 = 1001;
/// ACL of a private subnet: drop all other traffic.
const PRIORITY_PRIVATE: u16 = 1000;

/// ACL of the ports with port security: drop what no pod may send.
const PRIORITY_PORT_SECURITY: u16 = 32000;

/// `QoS`: the limit of a pod.
const PRIORITY_LIMIT: u16 = 1000;

/// The address sets, one per family, of CIDRs whose pods leave the cluster through their own node.
const DISTRIBUTED_V4: &str = "distributed_ip4";
const DISTRIBUTED_V6: &str = "distributed_ip6";

/// The address sets, one per family, of the nodes' own addresses. Traffic of a node to pods carries one of them, or the
/// address of its `ovn0`.
const NODES_V4: &str = "nodes_ip4";
const NODES_V6: &str = "nodes_ip6";

/// The address sets, one per family, of the addresses of external hosts on the join switch.
const HOSTS_V4: &str = "external_hosts_ip4";
const HOSTS_V6: &str = "external_hosts_ip6";

/// The key in a switch's `external_ids` for the Subnet definition that its rows are compiled from
/// ([`api::SubnetDef::record`]). After an invalid edit of the object, this is the only record of that definition.
pub const IN_FORCE: &str = "in_force";

pub use exit::exit_of;
pub use pool::address_set_of_pool;
pub use subnet::router_mac;

/// The option of a port that names the node whose chassis may bind it, by the chassis' `hostname` (ovn-nb(5)).
const REQUESTED_CHASSIS: &str = "requested-chassis";

/// The key in a port's `external_ids` for the gateway that the pod was given, if it is not the current gateway of the
/// subnet.
pub const GATEWAY: &str = "gateway";

/// The key that says whether the pod's annotation asks for its packets to be mirrored; `true`, or absent.
pub const MIRRORED: &str = "mirrored";

/// The key for the next hop of its traffic that leaves the cluster, if it has one of its own.
pub const NORTH_GATEWAY: &str = "north_gateway";

/// The key for the networks that the pod was given, if they are not the current ones.
pub const NETWORKS: &str = "cidr";

impl World {
    /// The facts of a key. There are none if the object does not exist or depends on one that does not.
    pub fn compile(&self, key: &Key) -> Vec<Fact> {
        let mut facts = Vec::new();
        match key {
            Key::Base => base::compile(self, &mut facts),
            Key::Subnet(name) => {
                if let Some(subnet) = self.subnets.get(name) {
                    subnet::compile(self, subnet, &mut facts);
                }
            }
            Key::Pool(name) => {
                if let Some(pool) = self.pools.get(name) {
                    pool::compile(pool, &mut facts);
                }
            }
            Key::Node(name) => {
                if let Some(node) = self.nodes.get(name) {
                    node::compile(self, node, &mut facts);
                }
            }
            Key::Port(name) => {
                if let Some(port) = self.ports.get(name) {
                    port::compile(self, port, &mut facts);
                }
            }
        }
        facts
    }
}

/// The value of a port's `addresses` column: the MAC address, then the IP addresses.
fn address(mac: Mac, ips: &Addresses) -> String {
    let mut text = mac.to_string();
    for ip in ips.iter() {
        text.push(' ');
        text.push_str(&ip.to_string());
    }
    text
}

/// `ip4` or `ip6`, the prefix of OVN's match fields for the family of an address.
fn family_of(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "ip4" } else { "ip6" }
}
