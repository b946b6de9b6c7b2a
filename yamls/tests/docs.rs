//! What docs/install.md says of values and of rights is what the chart has.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/install.md");

/// The rows of the table with this head.
fn table(head: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(PAGE).unwrap();
    let lines = page.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The values by their full names. Labels and resources are one value each.
fn leaves(of: &Value, prefix: &str, into: &mut BTreeMap<String, Value>) {
    for (key, value) in of.as_object().unwrap() {
        let name = format!("{prefix}{key}");
        if value.is_object() && !["resources", "nodeSelector"].contains(&key.as_str()) {
            leaves(value, &format!("{name}."), into);
        } else {
            into.insert(name, value.clone());
        }
    }
}

#[test]
fn every_value_is_in_the_table_with_its_default() {
    let text = fs::read_to_string(format!("{}/values.yaml", yamls::CHART)).unwrap();
    let mut values = BTreeMap::new();
    leaves(&serde_yaml_ng::from_str(&text).unwrap(), "", &mut values);
    let rows = table("| Value | Default | Meaning |").into_iter().map(|row| {
        let default = serde_yaml_ng::from_str(row[1].trim_matches('`')).unwrap();
        (row[0].trim_matches('`').to_owned(), default)
    });
    assert_eq!(rows.collect::<BTreeMap<String, Value>>(), values);
}

#[test]
fn every_helm_line_has_values_that_are_taken() {
    let page = fs::read_to_string(PAGE).unwrap().replace("\\\n", " ");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("helm ")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let line = line.split('|').next().unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let sets = words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1]).collect::<Vec<_>>();
        yamls::render(&sets).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_controllers_rights_are_those_of_its_roles() {
    let manifest = fs::read_to_string(yamls::MANIFEST).unwrap();
    let mut rights = Vec::new();
    for object in yamls::objects(&manifest).unwrap() {
        let role = object["kind"] == "ClusterRole" || object["kind"] == "Role";
        if role && object["metadata"]["name"] == "kube-ovn-controller" {
            rights.extend(yamls::rights(&object));
        }
    }
    let mut said = Vec::new();
    for row in table("| Group | Resources | Verbs |") {
        let group = if row[0] == "(core)" { "" } else { &row[0] };
        for resource in row[1].split(", ") {
            let verbs = row[2].split(" of ").next().unwrap().split([',', ';']).map(str::trim);
            said.extend(verbs.map(|verb| format!("{verb} {group}/{resource}")));
        }
    }
    rights.sort();
    said.sort();
    assert_eq!(said, rights);
}
