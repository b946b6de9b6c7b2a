//! `spec.natOutgoingPolicyRules`: which leaving traffic of a subnet with NAT is translated.

use std::fmt;

use ipnet::IpNet;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{null_is_default, plain};
use crate::values::parse_net;

/// A rule for traffic that leaves the cluster from a subnet with `natOutgoing`. The first rule that matches decides; traffic
/// that no rule matches is translated.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain)]
pub struct NatOutgoingPolicyRule {
    /// What the rule matches; everything if it is empty.
    #[serde(default, rename = "match", deserialize_with = "null_is_default")]
    pub match_: NatOutgoingPolicyMatch,
    /// `nat` (the source becomes the node's address) or `forward` (the pod's address stays).
    #[serde(default, deserialize_with = "null_is_default")]
    pub action: String,
}

/// What a [`NatOutgoingPolicyRule`] matches.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain)]
pub struct NatOutgoingPolicyMatch {
    /// Addresses and networks of sources, separated by commas; any source if it is empty.
    #[serde(
        default,
        rename = "srcIPs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 1024))]
    pub src_ips: String,
    /// Addresses and networks of destinations, separated by commas; any destination if it is empty.
    #[serde(
        default,
        rename = "dstIPs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(length(max = 1024))]
    pub dst_ips: String,
}

/// A [`NatOutgoingPolicyRule`] as values. All its networks have one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatRule {
    /// The sources; any if there are none.
    pub src: Vec<IpNet>,
    /// The destinations; any if there are none.
    pub dst: Vec<IpNet>,
    /// Whether the source is translated.
    pub nat: bool,
}

impl NatRule {
    /// Reads all rules. The error begins with the field: `natOutgoingPolicyRules[0].action: ...`.
    pub fn read(rules: &[NatOutgoingPolicyRule]) -> Result<Vec<Self>, (String, String)> {
        let read = |(at, rule): (usize, &NatOutgoingPolicyRule)| {
            let field = |name: &str| format!("natOutgoingPolicyRules[{at}].{name}");
            let src = nets(&rule.match_.src_ips).map_err(|why| (field("match.srcIPs"), why))?;
            let dst = nets(&rule.match_.dst_ips).map_err(|why| (field("match.dstIPs"), why))?;
            let is_v4 = |net: &IpNet| net.addr().is_ipv4();
            if src.iter().chain(&dst).any(is_v4) && !src.iter().chain(&dst).all(is_v4) {
                return Err((field("match"), "it has IPv4 and IPv6 addresses".to_owned()));
            }
            let nat = match rule.action.trim() {
                "nat" => true,
                "forward" => false,
                other => return Err((field("action"), format!("{other:?} is neither nat nor forward"))),
            };
            Ok(Self { src, dst, nat })
        };
        rules.iter().enumerate().map(read).collect()
    }
}

impl From<&NatRule> for NatOutgoingPolicyRule {
    fn from(rule: &NatRule) -> Self {
        let text = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Self {
            match_: NatOutgoingPolicyMatch { src_ips: text(&rule.src), dst_ips: text(&rule.dst) },
            action: if rule.nat { "nat" } else { "forward" }.to_owned(),
        }
    }
}

/// Parses addresses and networks.
fn nets(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(parse_net).collect()
}

impl fmt::Display for NatRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nets: &[IpNet]| match nets {
            [] => "any".to_owned(),
            nets => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        write!(f, "{} to {}: {}", list(&self.src), list(&self.dst), if self.nat { "nat" } else { "forward" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(rules: Value) -> String {
        let rules: Vec<NatOutgoingPolicyRule> = serde_json::from_value(rules).unwrap();
        match NatRule::read(&rules) {
            Ok(read) => {
                let again: Vec<NatOutgoingPolicyRule> = read.iter().map(Into::into).collect();
                assert_eq!(NatRule::read(&again).as_ref(), Ok(&read), "what is recorded is what was read");
                read.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            Err((field, why)) => format!("{field}: {why}"),
        }
    }

    #[test]
    fn rules_are_read_in_order_and_errors_name_the_field() {
        let rule = |src: &str, dst: &str, action: &str| json!([{ "match": { "srcIPs": src, "dstIPs": dst }, "action": action }]);
        assert_eq!(check(json!([])), "");
        assert_eq!(
            check(json!([{ "action": "forward" }, { "match": null, "action": "nat" }])),
            "any to any: forward; any to any: nat"
        );
        assert_eq!(check(rule("10.0.11.1, 10.0.12.7/24", "", "forward")), "10.0.11.1/32,10.0.12.0/24 to any: forward");
        assert_eq!(check(rule("fd00::1", "2001:db8::/32", "nat")), "fd00::1/128 to 2001:db8::/32: nat");
        for (rules, error) in [
            (rule("10.0.0.0/33", "", "nat"), "match.srcIPs: \"10.0.0.0/33\" is neither an address nor a network"),
            (
                rule("", "10.0.0.1-10.0.0.9", "nat"),
                "match.dstIPs: \"10.0.0.1-10.0.0.9\" is neither an address nor a network",
            ),
            (rule("10.0.0.1", "fd00::1", "nat"), "match: it has IPv4 and IPv6 addresses"),
            (rule("", "", "drop"), "action: \"drop\" is neither nat nor forward"),
            (json!([{}]), "action: \"\" is neither nat nor forward"),
        ] {
            assert_eq!(check(rules), format!("natOutgoingPolicyRules[0].{error}"));
        }
    }
}
