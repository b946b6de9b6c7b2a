//! The facts that exist without any object: the cluster router, the address sets of the distributed gateway, of the
//! nodes and of the external hosts, the group of the ports with port security, and what all ways out of centralized
//! subnets share.

use ovn::{AddressSet, Fact, LogicalRouter};

use super::{DISTRIBUTED_V4, DISTRIBUTED_V6, HOSTS_V4, HOSTS_V6, NODES_V4, NODES_V6};
use crate::world::World;

pub(super) fn compile(world: &World, facts: &mut Vec<Fact>) {
    let router = LogicalRouter { name: world.settings.router.to_string(), seed: "base".into(), options: [].into() };
    facts.push(router.fact());
    for name in [DISTRIBUTED_V4, DISTRIBUTED_V6, NODES_V4, NODES_V6, HOSTS_V4, HOSTS_V6] {
        facts.push(AddressSet { name: name.into(), seed: "base".into(), ..AddressSet::default() }.fact());
    }
    super::security::compile(facts);
    super::exit::shared(world, facts);
}
