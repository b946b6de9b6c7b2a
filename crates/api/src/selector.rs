//! Label selectors, with the meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether any of `selectors` matches `labels`.
pub fn selected(selectors: &[LabelSelector], labels: &BTreeMap<String, String>) -> bool {
    selectors.iter().any(|selector| selects(selector, labels))
}

/// Whether `selector` matches `labels`. An empty selector matches everything. A selector with an unknown operator matches
/// nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let same = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    same && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

/// The first unknown operator of `selector`.
pub(crate) fn unknown_operator(selector: &LabelSelector) -> Option<&str> {
    let operators = selector.match_expressions.iter().flatten().map(|requirement| requirement.operator.as_str());
    operators.into_iter().find(|operator| !["In", "NotIn", "Exists", "DoesNotExist"].contains(operator))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator() {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned()), ("tier".to_owned(), "app".to_owned())]);
        let check = |selector: serde_json::Value| selects(&serde_json::from_value(selector).unwrap(), &labels);
        let expression = |key: &str, operator: &str, values: &[&str]| {
            check(serde_json::json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        assert!(check(serde_json::json!({})));
        assert!(check(serde_json::json!({"matchLabels": {"team": "a"}})));
        assert!(!check(serde_json::json!({"matchLabels": {"team": "a", "tier": "db"}})));
        assert!(expression("team", "In", &["a", "b"]) && !expression("team", "In", &["b"]));
        assert!(!expression("none", "In", &["a"]) && expression("none", "NotIn", &["a"]));
        assert!(expression("team", "NotIn", &["b"]) && !expression("team", "NotIn", &["a"]));
        assert!(expression("team", "Exists", &[]) && !expression("none", "Exists", &[]));
        assert!(expression("none", "DoesNotExist", &[]) && !expression("team", "DoesNotExist", &[]));
        assert!(!expression("team", "in", &["a"]));
        let odd = serde_json::json!({"matchExpressions": [{"key": "team", "operator": "in"}]});
        assert_eq!(unknown_operator(&serde_json::from_value(odd).unwrap()), Some("in"));
        assert_eq!(unknown_operator(&LabelSelector::default()), None);
    }
}
