//! Reads database rows as plain JSON with `ovn-nbctl`, `ovn-sbctl` and a node's `ovs-vsctl`.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::Place;
use crate::central;

/// A row. A set is an array (a set of one element is that element), a map is an object, and a UUID is a string.
pub type Row = Map<String, Value>;

/// Returns the rows of a northbound table that match all conditions, in the syntax of `ovn-nbctl find`
/// (`name=ovn-default`).
pub async fn find(table: &str, conditions: &[&str]) -> Result<Vec<Row>> {
    rows(&central::nbctl(&arguments(table, conditions)).await?)
}

/// Like [`find`], in the southbound database.
pub async fn find_southbound(table: &str, conditions: &[&str]) -> Result<Vec<Row>> {
    rows(&central::sbctl(&arguments(table, conditions)).await?)
}

/// Like [`find`], in a node's Open vSwitch database.
pub async fn find_local(node: &Place, table: &str, conditions: &[&str]) -> Result<Vec<Row>> {
    rows(&node.run("ovs-vsctl", &arguments(table, conditions)).await?)
}

/// Waits until a northbound record has these values (`ovn-nbctl wait-until`).
pub async fn until(table: &str, record: &str, conditions: &[&str]) -> Result<()> {
    let mut arguments = vec!["--timeout=30", "wait-until", table, record];
    arguments.extend(conditions);
    central::nbctl(&arguments).await.map(drop)
}

fn arguments<'a>(table: &'a str, conditions: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["--format=json", "find", table];
    arguments.extend(conditions);
    arguments
}

fn rows(printed: &str) -> Result<Vec<Row>> {
    let value: Value = serde_json::from_str(printed).with_context(|| format!("not JSON: {printed}"))?;
    let headings: Vec<_> = value["headings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let data = value["data"].as_array().into_iter().flatten().filter_map(Value::as_array);
    Ok(data.map(|row| headings.iter().map(|h| (*h).to_owned()).zip(row.iter().map(plain)).collect()).collect())
}

/// Converts a value from the notation of RFC 7047.
fn plain(value: &Value) -> Value {
    let Some([kind, inner]) = value.as_array().map(Vec::as_slice) else { return value.clone() };
    match (kind.as_str(), inner) {
        (Some("uuid"), _) => inner.clone(),
        (Some("set"), Value::Array(items)) => Value::Array(items.iter().map(plain).collect()),
        (Some("map"), Value::Array(pairs)) => {
            let pair = |p: &Value| Some((plain(&p[0]).as_str()?.to_owned(), plain(&p[1])));
            Value::Object(pairs.iter().filter_map(pair).collect())
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_made_plain() {
        let printed = r#"{"headings":["_uuid","name","ports","other_config","enabled"],
            "data":[[["uuid","u1"],"sw",["set",[["uuid","p1"],["uuid","p2"]]],["map",[["subnet","10.0.0.0/24"]]],["set",[]]]]}"#;
        let expected = json!([{"_uuid": "u1", "name": "sw", "ports": ["p1", "p2"], "other_config": {"subnet": "10.0.0.0/24"}, "enabled": []}]);
        assert_eq!(json!(rows(printed).unwrap()), expected);
    }
}
