//! From one key to its facts. Each kind of object has its room; none of them looks at another key's facts.

mod base;
mod node;
mod pool;
mod port;
mod private;
mod subnet;

use api::{Addresses, Mac};
use ovn::Fact;

use crate::world::{Key, World};

/// Router policy: traffic to a subnet of ours stays on the router's connected routes.
const PRIORITY_TO_SUBNET: u16 = 31000;
/// Router policy: traffic to a node's own address goes to that node's `ovn0`.
const PRIORITY_TO_NODE: u16 = 30000;
/// Router policy: what is left leaves by a gateway.
const PRIORITY_GATEWAY: u16 = 29000;

/// ACL of a private subnet: nodes reach its pods.
const PRIORITY_FROM_NODES: u16 = 3000;
/// ACL of a private subnet: what it talks with.
const PRIORITY_TALKS_WITH: u16 = 1001;
/// ACL of a private subnet: what is left is dropped.
const PRIORITY_PRIVATE: u16 = 1000;

/// The address sets of the CIDRs that leave by the node their pod runs on, one per family.
const DISTRIBUTED_V4: &str = "distributed_ip4";
const DISTRIBUTED_V6: &str = "distributed_ip6";

/// The key in a switch's `external_ids` under which the definition of its Subnet stands that the rows around it are made
/// from ([`api::SubnetDef::record`]): once an edit has turned the object into nonsense, it is said nowhere else.
pub const IN_FORCE: &str = "in_force";

pub use pool::address_set_of_pool;
pub use subnet::router_mac;

/// The key in a port's `external_ids` under which the gateway stands that its pod was given, when it is not the subnet's
/// any more.
pub const GATEWAY: &str = "gateway";

/// The same for the networks.
pub const NETWORKS: &str = "cidr";

impl World {
    /// The facts that one key wants. A key whose object is gone, or is not usable yet, wants none.
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

/// A port's `addresses`: its MAC address, and its IP addresses behind that.
fn address(mac: Mac, ips: &Addresses) -> String {
    let mut text = mac.to_string();
    for ip in ips.iter() {
        text.push(' ');
        text.push_str(&ip.to_string());
    }
    text
}

/// `ip4` or `ip6`, the prefix of OVN's match fields for the address's family.
fn family_of(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "ip4" } else { "ip6" }
}
