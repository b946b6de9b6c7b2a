//! The checked rules of a subnet.

use crate::SubnetAcl;

/// What an ACL is about (ovn-nb(5), `ACL`, `direction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclDirection {
    /// Packets that leave the switch to a port.
    ToLport,
    /// Packets that enter the switch from a port.
    FromLport,
}

/// What an ACL does (ovn-nb(5), `ACL`, `action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclAction {
    /// Allows the packet and its replies.
    AllowRelated,
    /// Allows the packet without connection tracking.
    AllowStateless,
    /// Allows the packet; with its replies if another rule of the switch is stateful.
    Allow,
    /// Drops the packet silently.
    Drop,
    /// Drops the packet and answers with a TCP reset or an ICMP error.
    Reject,
}

/// A rule of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRule {
    /// The direction.
    pub direction: AclDirection,
    /// The priority, 0 to 32767. The highest match wins.
    pub priority: u16,
    /// An expression of OVN. Only OVN checks it.
    pub match_: String,
    /// The action.
    pub action: AclAction,
}

const DIRECTIONS: [(&str, AclDirection); 2] =
    [("to-lport", AclDirection::ToLport), ("from-lport", AclDirection::FromLport)];

const ACTIONS: [(&str, AclAction); 5] = [
    ("allow-related", AclAction::AllowRelated),
    ("allow-stateless", AclAction::AllowStateless),
    ("allow", AclAction::Allow),
    ("drop", AclAction::Drop),
    ("reject", AclAction::Reject),
];

/// The longest match, as in the schema.
const LONGEST_MATCH: usize = 4096;

impl AclRule {
    fn parse(written: &SubnetAcl) -> Result<Self, String> {
        let SubnetAcl { direction, priority, match_, action } = written;
        let named = DIRECTIONS.iter().find(|(name, _)| name == direction);
        let (_, direction) =
            named.ok_or_else(|| format!("direction {direction:?} is neither to-lport nor from-lport"))?;
        let fits = u16::try_from(*priority).ok().filter(|priority| *priority <= 32767);
        let priority = fits.ok_or_else(|| format!("priority {priority} is not between 0 and 32767"))?;
        let match_ = match_.trim();
        if match_.is_empty() {
            return Err("match is empty".to_owned());
        }
        if match_.len() > LONGEST_MATCH {
            return Err(format!("match is longer than {LONGEST_MATCH} bytes"));
        }
        if match_.contains(char::is_control) {
            return Err("match contains a control character".to_owned());
        }
        let named = ACTIONS.iter().find(|(name, _)| name == action);
        let (_, action) = named.ok_or_else(|| {
            format!("action {action:?} is none of allow-related, allow-stateless, allow, drop and reject")
        })?;
        Ok(Self { direction: *direction, priority, match_: match_.to_owned(), action: *action })
    }

    /// The rule as users write it.
    pub(super) fn written(&self) -> SubnetAcl {
        let direction = DIRECTIONS.iter().find(|(_, direction)| *direction == self.direction);
        let action = ACTIONS.iter().find(|(_, action)| *action == self.action);
        SubnetAcl {
            direction: direction.map_or("", |(name, _)| name).to_owned(),
            priority: self.priority.into(),
            match_: self.match_.clone(),
            action: action.map_or("", |(name, _)| name).to_owned(),
        }
    }
}

/// Checks all rules. The error begins with the place in the list. Of two rules for the same packets with one priority, OVN
/// would take either.
pub(super) fn parse(written: &[SubnetAcl]) -> Result<Vec<AclRule>, String> {
    let mut acls: Vec<AclRule> = Vec::new();
    for (at, written) in written.iter().enumerate() {
        let acl = AclRule::parse(written).map_err(|why| format!("[{at}]: {why}"))?;
        let same = |other: &AclRule| {
            (other.direction, other.priority, &other.match_) == (acl.direction, acl.priority, &acl.match_)
        };
        if let Some(earlier) = acls.iter().position(same) {
            return Err(format!("[{at}]: direction, priority and match are those of [{earlier}]"));
        }
        acls.push(acl);
    }
    Ok(acls)
}
