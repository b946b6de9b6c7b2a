//! What a Subnet asks for and this version does not do.

use serde_json::Value;

use super::SubnetSpec;

/// Says which fields of a spec are not served, and what happens instead; `None` when all of it is served. A field that asks
/// for nothing (`false`, `0`, empty) counts as served.
pub fn unserved(spec: &SubnetSpec) -> Option<String> {
    let mut fields = Vec::new();
    if spec.enable_lb == Some(false) {
        fields.push("spec.enableLb: false is not served, kube-proxy serves Services to all pods".to_owned());
    }
    if spec.disable_inter_connection == Some(true) {
        fields.push(
            "spec.disableInterConnection is not served, the subnet is attached to the cluster's router".to_owned(),
        );
    }
    let unknown = spec.other.iter().filter(|(name, value)| !NEUTRAL.contains(&name.as_str()) && asks(value));
    fields.extend(unknown.map(|(name, _)| format!("spec.{name} is not served")));
    (!fields.is_empty()).then(|| fields.join("; "))
}

/// Fields of kube-ovn's that change nothing in a subnet such as those that are served.
const NEUTRAL: [&str; 2] = ["allowEWTraffic", "u2oInterconnectionIP"];

fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_in_vain_is_named_and_what_asks_for_nothing_is_not() {
        let check = |spec: Value| unserved(&serde_json::from_value(spec).unwrap()).unwrap_or_default();
        assert_eq!(check(json!({ "cidrBlock": "10.0.0.0/8", "gatewayType": "distributed", "enableLb": true })), "");
        assert_eq!(check(json!({ "enableDHCP": false, "acls": [], "vlan": "" })), "");
        assert_eq!(
            check(json!({ "enableDHCP": true, "vips": ["10.0.0.1"] })),
            "spec.enableDHCP is not served; spec.vips is not served"
        );
    }
}
