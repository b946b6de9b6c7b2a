//! Renders the Helm chart and the manifest next to this file, for the tests here and in other crates.
//!
//! The output depends only on the chart and the values, not on a cluster or the version of helm.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

/// The directory of the chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/chart");

/// The manifest: the chart rendered with its default values.
pub const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kube-ovn.yaml");

/// The header of the rendered manifest.
pub const HEADER: &str = "\
# kube-ovn-rs, with the settings of yamls/chart/values.yaml: `kubectl apply -f` this file, then label the node where ovn-central shall
# run: `kubectl label node NAME kube-ovn/role=master`. docs/install.md tells the rest.
#
# Rendered from yamls/chart. Change that, and then run `UPDATE_MANIFEST=1 cargo test -p yamls`.
";

/// Why helm failed.
#[derive(Debug, thiserror::Error)]
pub enum HelmError {
    /// helm is missing or cannot be run.
    #[error("{}: {source}; e2e/setup check builds it", path.display())]
    Missing {
        /// The expected path.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// helm returned an error, with this message.
    #[error("{0}")]
    Refused(String),
}

/// Returns the path of the helm that `e2e/setup check` builds.
pub fn program() -> PathBuf {
    let cache = std::env::var_os("KUBE_OVN_CACHE").unwrap_or_else(|| "/var/cache/kube-ovn-rs".into());
    Path::new(&cache).join("bin/helm")
}

/// Runs helm. Returns its output.
pub fn helm(line: &[&str]) -> Result<String, HelmError> {
    let path = program();
    let run = Command::new(&path).args(line).output();
    let output = run.map_err(|source| HelmError::Missing { path, source })?;
    if !output.status.success() {
        return Err(HelmError::Refused(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Renders the chart with values in the syntax of `helm --set`: `tunnel.mtu=1400`. The release is in `kube-system`.
pub fn render(values: &[&str]) -> Result<String, HelmError> {
    render_with(&["--namespace=kube-system"], values)
}

/// Renders the chart with values and with options of `helm template`.
pub fn render_with(options: &[&str], values: &[&str]) -> Result<String, HelmError> {
    // Of several versions, helm takes the last.
    let mut line = vec!["template", "kube-ovn", CHART, "--kube-version=1.33.0"];
    line.extend(options);
    line.extend(values.iter().flat_map(|value| ["--set", value]));
    helm(&line)
}

/// Returns the objects of a rendered chart, in order.
pub fn objects(yaml: &str) -> Result<Vec<Value>, serde_yaml_ng::Error> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml).map(Value::deserialize);
    documents.filter(|object| !matches!(object, Ok(Value::Null))).collect()
}

/// Returns the rights of a role, each as `verb group/resource`.
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

/// Returns the command and the arguments of a container. Variables such as `$(NAME)` are not expanded.
pub fn command_line(objects: &[Value], container: &str) -> Vec<String> {
    let found = containers(objects, container);
    found.flat_map(|each| words(&each["command"]).chain(words(&each["args"]))).collect()
}

/// Returns the commands of a container's exec probes.
pub fn probes(objects: &[Value], container: &str) -> Vec<Vec<String>> {
    let kinds = ["startupProbe", "livenessProbe", "readinessProbe"];
    let commands = containers(objects, container)
        .flat_map(|each| kinds.map(|kind| words(&each[kind]["exec"]["command"]).collect::<Vec<_>>()));
    commands.filter(|command| !command.is_empty()).collect()
}

/// Returns `terminationGracePeriodSeconds` of the workload with this name, in seconds.
pub fn grace(objects: &[Value], workload: &str) -> Option<u64> {
    let object = objects
        .iter()
        .find(|object| object["metadata"]["name"] == workload && !object["spec"]["template"]["spec"].is_null());
    object?["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64()
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
