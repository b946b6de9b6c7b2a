//! A rule of a Subnet as users write it.

use kube::KubeSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A rule for packets that pass the switch of a subnet, in OVN's terms (ovn-nb(5), `ACL`).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["direction", "priority", "match", "action"]))]
pub struct SubnetAcl {
    /// `from-lport` for packets that enter the switch from a pod or the router, `to-lport` for packets that leave it to one.
    #[schemars(extend("enum" = ["to-lport", "from-lport"]))]
    pub direction: String,
    /// The rule with the highest priority decides.
    #[schemars(range(min = 0, max = 32767))]
    pub priority: i64,
    /// Which packets: an expression of OVN, such as `ip4.src == 10.17.0.0/24 && tcp.dst == 80`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 4096))]
    pub match_: String,
    /// What happens to them: `allow-related`, `allow-stateless`, `allow`, `drop` or `reject`.
    #[schemars(extend("enum" = ["allow-related", "allow-stateless", "allow", "drop", "reject"]))]
    pub action: String,
}

/// Reads any stored value: before the field was known, the API server stored it unchecked. What is no list of rules gives a
/// rule that the checks refuse.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SubnetAcl>, D::Error> {
    let rule = |value| serde_json::from_value(value).unwrap_or_default();
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(rules) => rules.into_iter().map(rule).collect(),
        other => vec![rule(other)],
    })
}
