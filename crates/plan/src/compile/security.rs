//! Port security: what a pod cannot send although it comes from its own addresses.
//!
//! The column `port_security` of a port covers addresses: of Ethernet, IP, ARP and neighbor discovery. All ports that have
//! it are in one group, at which an ACL hangs, so a pod adds one reference and no rule. It is a rule for packets that enter
//! a switch (`from-lport`) without connection tracking, so it makes no switch stateful.
//!
//! The ACL drops what DHCP clients take: they look at the destination port only. An ACL cannot drop router
//! advertisements, because northd allows them, as all neighbor discovery, before any ACL (ovn-northd(8), priority 65532).

use ovn::{Acl, Direction, Fact, PortGroup, Verdict};

use super::PRIORITY_PORT_SECURITY;

/// The group of the ports with port security.
const GROUP: &str = "port_security";

/// The group and its ACL.
pub(super) fn compile(facts: &mut Vec<Fact>) {
    facts.push(PortGroup { name: GROUP.into(), seed: "base".into(), ..PortGroup::default() }.fact());
    let acl = Acl {
        parent: PortGroup::key(GROUP),
        seed: "base".into(),
        tier: 0,
        direction: Direction::FromLport,
        priority: PRIORITY_PORT_SECURITY,
        match_: format!("inport == @{GROUP} && ((ip4 && udp.dst == 68) || (ip6 && udp.dst == 546))"),
        action: Verdict::Drop,
        log: false,
    };
    facts.extend(acl.facts());
}

/// The fact that a port has port security.
pub(super) fn member(port: &str) -> Fact {
    PortGroup::member(GROUP, port)
}
