//! The ACLs of a private subnet. They allow traffic from nodes, within the subnet, and with the allowed networks, and
//! drop all other traffic, also that from external hosts.
//!
//! All ACLs apply where packets leave the switch (`to-lport`), to a pod or to the router, so the drop covers both
//! directions. Connection tracking allows replies. Neighbor discovery needs no ACL: OVN allows it on switches with
//! stateful ACLs (ovn-northd(8)).

use api::SubnetDef;
use ovn::{Acl, Direction, Fact, LogicalSwitch, Verdict};

use super::{
    HOSTS_V4, HOSTS_V6, NODES_V4, NODES_V6, PRIORITY_FROM_ALLOWED_HOSTS, PRIORITY_FROM_HOSTS, PRIORITY_FROM_NODES,
    PRIORITY_PRIVATE, PRIORITY_TALKS_WITH, family_of,
};
use crate::world::World;

pub(super) fn compile(world: &World, subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    let mut rule = |priority, match_, action| {
        let acl = Acl {
            parent: LogicalSwitch::key(&subnet.name),
            seed: subnet.uid.as_str().into(),
            tier: 0,
            direction: Direction::ToLport,
            priority,
            match_,
            action,
            // kube-ovn logs dropped packets. Without a rate limit, any pod could overload ovn-controller.
            log: false,
        };
        facts.extend(acl.facts());
    };
    for own in subnet.cidrs.iter() {
        let ip = family_of(own.network());
        let same_family = |cidr: &&api::Cidr| family_of(cidr.network()) == ip;
        let join = world.subnets.get(&world.settings.node_switch).map(|join| &join.cidrs);
        for join in join.iter().flat_map(|cidrs| cidrs.iter()).filter(same_family) {
            rule(PRIORITY_FROM_NODES, format!("{ip}.src == {join}"), Verdict::AllowRelated);
        }
        let nodes = if own.network().is_ipv4() { NODES_V4 } else { NODES_V6 };
        rule(PRIORITY_FROM_NODES, format!("{ip}.src == ${nodes}"), Verdict::AllowRelated);
        rule(PRIORITY_TALKS_WITH, format!("{ip}.src == {own} && {ip}.dst == {own}"), Verdict::AllowRelated);
        // They are there before the first external host is, so that none gets in before its ACLs do.
        let hosts = if own.network().is_ipv4() { HOSTS_V4 } else { HOSTS_V6 };
        rule(PRIORITY_FROM_HOSTS, format!("{ip}.src == ${hosts}"), Verdict::Drop);
        for allowed in subnet.allow_subnets.iter().filter(same_family) {
            let both = format!("{ip}.src == ${hosts} && {ip}.src == {allowed}");
            rule(PRIORITY_FROM_ALLOWED_HOSTS, both, Verdict::AllowRelated);
        }
        for allowed in subnet.allow_subnets.iter().filter(same_family) {
            let both_ways =
                format!("({ip}.src == {own} && {ip}.dst == {allowed}) || ({ip}.src == {allowed} && {ip}.dst == {own})");
            rule(PRIORITY_TALKS_WITH, both_ways, Verdict::AllowRelated);
        }
    }
    rule(PRIORITY_PRIVATE, "ip".to_owned(), Verdict::Drop);
}
