//! Checks that docs/install.md lists the chart's values and rights, that docs/subnets.md has a row for each field of a
//! Subnet, and that the messages in docs/troubleshooting.md appear in the programs' tests.

#![allow(clippy::unwrap_used)] // test helpers may panic

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn page(name: &str) -> String {
    fs::read_to_string(format!("{TOP}/docs/{name}")).unwrap()
}

/// Returns the rows of the table with this header.
fn table(name: &str, head: &str) -> Vec<Vec<String>> {
    let page = page(name);
    let lines = page.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    lines.map(cells).collect()
}

fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

const WORKLOADS: [&str; 4] = ["central", "controller", "agent", "ovs"];

/// Collects the values with their full names. Settings that workloads have in common count as one value each.
fn leaves(of: &Value, prefix: &str, common: &BTreeSet<String>, into: &mut BTreeMap<String, Value>) {
    for (key, value) in of.as_object().unwrap() {
        let name = format!("{prefix}{key}");
        if value.is_object() && !common.contains(key) {
            leaves(value, &format!("{name}."), common, into);
        } else {
            into.insert(name, value.clone());
        }
    }
}

#[test]
fn every_value_is_in_a_table_with_its_default() {
    let text = fs::read_to_string(format!("{}/values.yaml", yamls::CHART)).unwrap();
    let read = |cell: &str| -> Value { serde_yaml_ng::from_str(cell.trim_matches('`')).unwrap() };
    let name = |cell: &str| cell.trim_matches('`').to_owned();
    let rows = table("install.md", "| Value | Default | Meaning |");
    let mut said: BTreeMap<String, Value> = rows.iter().map(|row| (name(&row[0]), read(&row[1]))).collect();
    let head = "| Value of a workload | `central` | `controller` | `agent` | `ovs` | Meaning |";
    let mut common = BTreeSet::new();
    for row in table("install.md", head) {
        for (at, workload) in WORKLOADS.iter().enumerate() {
            said.insert(format!("{workload}.{}", name(&row[0])), read(&row[at + 1]));
        }
        common.insert(name(&row[0]));
    }
    let mut values = BTreeMap::new();
    leaves(&serde_yaml_ng::from_str(&text).unwrap(), "", &common, &mut values);
    assert_eq!(said, values);
}

#[test]
fn every_helm_line_has_values_that_are_taken() {
    let page = page("install.md").replace("\\\n", " ");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("helm ")).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let line = line.split('|').next().unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let sets = words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1]).collect::<Vec<_>>();
        let namespace =
            words.windows(2).find(|pair| pair[0] == "--namespace").map(|pair| format!("--namespace={}", pair[1]));
        let options: Vec<&str> = namespace.as_deref().into_iter().collect();
        yamls::render_with(&options, &sets).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn every_port_of_the_manifest_is_in_the_table_for_firewalls() {
    let text = fs::read_to_string(yamls::MANIFEST).unwrap();
    let mut ports = BTreeSet::new();
    for object in yamls::objects(&text).unwrap() {
        for container in object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten() {
            let of = container["ports"].as_array().into_iter().flatten();
            ports.extend(of.map(|port| port["containerPort"].to_string()));
        }
    }
    let rows = table("install.md", "| Port | On | From | What for |");
    let tcp = rows.iter().filter_map(|row| row[0].strip_prefix("TCP "));
    let said: BTreeSet<String> = tcp.flat_map(|ports| ports.split(", ").map(str::to_owned)).collect();
    assert_eq!(said, ports);
}

#[test]
fn the_controllers_rights_are_those_of_its_roles() {
    let manifest = fs::read_to_string(yamls::MANIFEST).unwrap();
    let mut rights = Vec::new();
    for object in yamls::objects(&manifest).unwrap() {
        let role = object["kind"] == "ClusterRole" || object["kind"] == "Role";
        let name = object["metadata"]["name"].as_str().unwrap();
        if role && name.starts_with("kube-ovn-controller") {
            rights.extend(yamls::rights(&object));
        }
    }
    let mut said = Vec::new();
    for row in table("install.md", "| Group | Resources | Verbs |") {
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

#[test]
fn what_an_edit_does_is_said_of_every_field_of_a_subnet() {
    let text = fs::read_to_string(format!("{TOP}/yamls/crds/kubeovn.io_subnets.yaml")).unwrap();
    let crd: Value = serde_yaml_ng::from_str(&text).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let fields: BTreeSet<String> = spec.as_object().unwrap().keys().cloned().collect();
    let rows = table("subnets.md", "| Field | Running pods | New pods | When it is refused |");
    let said: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(said.len(), fields.len(), "one row for each field");
    assert_eq!(said.into_iter().collect::<BTreeSet<_>>(), fields);
}

/// Appends the Rust tests in a folder. Joins string literals that span several lines.
fn tests_below(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let all = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
            let tests = if all { 0 } else { text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len()) };
            let mut lines = text[tests..].lines().peekable();
            while let Some(line) = lines.next() {
                let goes_on = line.strip_suffix('\\');
                into.push_str(goes_on.unwrap_or(line));
                if goes_on.is_none() {
                    into.push('\n');
                } else if let Some(next) = lines.peek_mut() {
                    *next = next.trim_start();
                }
            }
        }
    }
}

#[test]
fn every_message_of_the_page_appears_in_a_test() {
    let mut tests = String::new();
    for folder in ["central", "cni-server", "controller", "crates/api", "crates/ipam", "crates/keys", "ovs"] {
        tests_below(&Path::new(TOP).join(folder), &mut tests);
    }
    let page = page("troubleshooting.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Where |")).map(cells);
    let (mut held, mut unsaid) = (0, Vec::new());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let said = row[1].trim_matches('`');
        // These messages come from the scheduler and from the kubelet.
        if ["didn't match Pod's node affinity/selector", "mkdir /etc/origin: read-only file system"].contains(&said) {
            continue;
        }
        let parts = said.split("...").map(|part| part.trim().trim_end_matches(',')).filter(|part| !part.is_empty());
        unsaid.extend(parts.filter(|part| !tests.contains(part)).map(str::to_owned));
        held += 1;
    }
    assert!(unsaid.is_empty(), "no test says {unsaid:#?}");
    assert!(held > 20, "{held} messages");
}
