//! The rules that the spec of a Subnet lists.
//!
//! They are in the tier after that of the controller's own rules, which therefore decide first: what those of a private
//! subnet allow or drop does not reach the rules here.

use api::{AclAction, AclDirection, AclRule, SubnetDef};
use ovn::{Acl, Direction, Fact, LogicalSwitch, Verdict};

use super::TIER_OF_SUBNET;

pub(super) fn compile(subnet: &SubnetDef, facts: &mut Vec<Fact>) {
    for AclRule { direction, priority, match_, action } in &subnet.acls {
        let acl = Acl {
            parent: LogicalSwitch::key(&subnet.name),
            seed: subnet.uid.as_str().into(),
            tier: TIER_OF_SUBNET,
            direction: match direction {
                AclDirection::ToLport => Direction::ToLport,
                AclDirection::FromLport => Direction::FromLport,
            },
            priority: *priority,
            match_: match_.clone(),
            action: match action {
                AclAction::AllowRelated => Verdict::AllowRelated,
                AclAction::AllowStateless => Verdict::AllowStateless,
                AclAction::Allow => Verdict::Allow,
                AclAction::Drop => Verdict::Drop,
                AclAction::Reject => Verdict::Reject,
            },
            log: false,
        };
        facts.extend(acl.facts());
    }
}
