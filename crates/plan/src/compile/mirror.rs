//! The collector of a subnet, and the ports whose packets it gets.

use api::{Collector, MirrorType, SubnetDef};
use ovn::{Fact, Mirror};

use crate::objects::Port;

/// The facts of a subnet.
pub(super) fn subnet(subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    facts.extend(subnet.remote_mirror.as_ref().map(|collector| row(collector).fact()));
}

/// The facts of a port of that subnet.
pub(super) fn port(subnet: &SubnetDef, port: &Port, facts: &mut Vec<Fact>) {
    let collector = subnet.remote_mirror.as_ref().filter(|collector| port.mirrored || !collector.only_annotated);
    facts.extend(collector.map(|collector| row(collector).member(&port.name)));
}

fn row(collector: &Collector) -> Mirror {
    Mirror {
        sink: collector.to,
        kind: match collector.mirror_type {
            MirrorType::Gre => "gre",
            MirrorType::Erspan => "erspan",
        },
        index: collector.key,
    }
}
