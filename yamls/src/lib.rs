//! The Helm chart and the manifest beside this file, rendered: for the tests here, and for whoever installs them elsewhere.
//!
//! Promise: what is rendered depends on the chart and the values alone, not on a cluster and not on the version of helm.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

/// The chart's folder.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/chart");

/// The manifest: what the chart gives with the values as they are.
pub const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kube-ovn.yaml");

/// What stands above the rendered manifest.
pub const HEADER: &str = "\
# kube-ovn-rs, with the settings of yamls/chart/values.yaml: `kubectl apply -f` this file, then label the node where ovn-central shall
# run: `kubectl label node NAME kube-ovn/role=master`. docs/install.md tells the rest.
#
# Rendered from yamls/chart. Change that, and then run `UPDATE_MANIFEST=1 cargo test -p yamls`.
";

/// Why helm gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum HelmError {
    /// It is not there, or cannot be run.
    #[error("{}: {source}; e2e/setup check builds it", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It refuses what it was given; this is what it says.
    #[error("{0}")]
    Refused(String),
}

/// The helm that `e2e/setup check` builds.
pub fn program() -> PathBuf {
    let cache = std::env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into());
    Path::new(&cache).join("bin/helm")
}

/// Runs helm; gives what it prints.
pub fn helm(line: &[&str]) -> Result<String, HelmError> {
    let path = program();
    let run = Command::new(&path).args(line).output();
    let output = run.map_err(|source| HelmError::Missing { path, source })?;
    if !output.status.success() {
        return Err(HelmError::Refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The chart's objects with some values set, each as `helm --set` takes it: `tunnel.mtu=1400`.
pub fn render(values: &[&str]) -> Result<String, HelmError> {
    let mut line = vec!["template", "kube-ovn", CHART, "--kube-version=1.33.0"];
    line.extend(values.iter().flat_map(|value| ["--set", value]));
    helm(&line)
}

/// The objects of a rendered chart, in their order.
pub fn objects(yaml: &str) -> Result<Vec<Value>, serde_yaml_ng::Error> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(Value::deserialize);
    documents.filter(|object| !matches!(object, Ok(Value::Null))).collect()
}

/// What a role allows, each right as `verb group/resource`.
pub fn rights(role: &Value) -> Vec<String> {
    let mut rights = Vec::new();
    for rule in list(&role["rules"]) {
        for group in list(&rule["apiGroups"]).iter().filter_map(Value::as_str) {
            for resource in list(&rule["resources"]).iter().filter_map(Value::as_str) {
                let verbs = list(&rule["verbs"]).iter().filter_map(Value::as_str);
                rights.extend(verbs.map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    rights
}

/// The words that start the container of this name, as they stand: `$(NAME)` is for kubelet to fill in.
pub fn command_line(objects: &[Value], container: &str) -> Vec<String> {
    let found = containers(objects, container);
    found.flat_map(|each| words(&each["command"]).chain(words(&each["args"]))).collect()
}

/// The words of each command by which kubelet probes that container.
pub fn probes(objects: &[Value], container: &str) -> Vec<Vec<String>> {
    let kinds = ["startupProbe", "livenessProbe", "readinessProbe"];
    let commands = containers(objects, container)
        .flat_map(|each| kinds.map(|kind| words(&each[kind]["exec"]["command"]).collect::<Vec<_>>()));
    commands.filter(|command| !command.is_empty()).collect()
}

fn containers<'a>(objects: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    let all = objects.iter().flat_map(|object| list(&object["spec"]["template"]["spec"]["containers"]));
    all.filter(move |each| each["name"] == name)
}

fn words(value: &Value) -> impl Iterator<Item = String> {
    list(value).iter().filter_map(Value::as_str).map(ToOwned::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
