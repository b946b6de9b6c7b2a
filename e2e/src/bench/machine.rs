//! Describes the machine of the measurement.

use std::fs;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::layout::Node;
use crate::{central, process, rootfs};

/// Returns one paragraph: processors, memory, kernel, versions, and the load before the measurement.
pub async fn facts(cluster: &Cluster) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let model = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let ovn = first_line(&central::nbctl(&["--version"]).await?);
    let mut ovs = String::new();
    if let Some(node) = cluster.nodes().first() {
        ovs = first_line(&process::run(rootfs::on(*node, "ovs-vsctl", &["--version"])?).await?);
    }
    let kubernetes = cluster.client().apiserver_version().await?.git_version;
    Ok(format!(
        "machine: {cores} cores ({model}), {} GiB, Linux {}, {} nodes as namespaces of it
versions: Kubernetes {kubernetes}; {ovn}; {ovs}, userspace datapath
load before: {}  (all of the cluster shares the cores: ratios hold, absolute figures wander)",
        memory >> 20,
        kernel.trim(),
        Node::running().len(),
        load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    ))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Returns the value of a `name: value` line.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
