//! `kube-ovn-cni check node`: what of the network works, seen from this node.
//!
//! Each check is one line. The exit status is zero if nothing is wrong. The agent runs the checks of the node itself at
//! intervals and publishes them as a metric. A check looks at the node, or asks over the network; it changes nothing.

mod host;
mod peers;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use kube::Client;

use crate::metrics::Metrics;
use crate::ovs::Ovs;

/// The time limit of a check that asks over the network.
const PATIENCE: Duration = Duration::from_secs(2);

/// The interval of the metric.
const INTERVAL: Duration = Duration::from_mins(1);

/// Check from this node what of the network works.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-ovn-cni check node", bin_name = "kube-ovn-cni check node")]
pub struct Args {
    /// Name of the Kubernetes node.
    #[arg(long, env = "KUBE_NODE_NAME")]
    pub node_name: String,
    /// Path of the kubeconfig. Default: the pod's service account.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Database of the node's Open vSwitch: a path or `unix:<path>`.
    #[arg(long, default_value = "/run/openvswitch/db.sock", value_parser = crate::args::ovs_socket)]
    pub ovs_socket: PathBuf,
    /// Directory of the conflist.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// File name of the conflist.
    #[arg(long, default_value = "01-kube-ovn.conflist")]
    pub cni_conf_name: String,
    /// Directory of the key of the node's chassis.
    #[arg(long, default_value = crate::chassis_key::DIRECTORY)]
    pub key_directory: PathBuf,
    /// Port of the agents' health endpoints.
    #[arg(long, default_value_t = crate::args::PORT)]
    pub port: u16,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked: a word, the same in each run. It is a label of the metric.
    pub check: &'static str,
    /// The object of the check, for example another node. Empty if there is only one.
    pub of: String,
    /// What works, or what is wrong and what to do.
    pub result: Result<String, String>,
}

impl Finding {
    fn new(check: &'static str, result: Result<String, String>) -> Self {
        Self { check, of: String::new(), result }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = match &self.result {
            Ok(text) => ("ok  ", text),
            Err(text) => ("FAIL", text),
        };
        let space = if self.of.is_empty() { "" } else { " " };
        write!(f, "{word} {}{space}{}: {text}", self.check, self.of)
    }
}

/// Runs the checks and prints them. Returns whether nothing is wrong.
pub async fn run(args: &Args) -> bool {
    let registry = prometheus::Registry::new();
    let client = kit::kubernetes::client(args.kubeconfig.as_deref(), &registry).await;
    let mut wrong = false;
    for finding in all(args, client.as_ref().ok()).await {
        wrong |= finding.result.is_err();
        println!("{finding}");
    }
    if let Err(error) = client {
        wrong = true;
        println!("{}", Finding::new("api-server", Err(format!("{error:#}"))));
    }
    !wrong
}

/// Runs all checks.
async fn all(args: &Args, client: Option<&Client>) -> Vec<Finding> {
    let mut findings = host::check(args, &Ovs::connect(&args.ovs_socket)).await;
    if let Some(client) = client {
        findings.extend(peers::server(client).await);
        findings.extend(peers::nodes(args, client).await);
    }
    findings
}

/// Runs the checks at intervals, and publishes them as metrics. The other nodes are not asked: with each node asking all,
/// the API server and the network of a large cluster would be busy with that.
pub async fn publish(args: Args, client: Client, ovs: Ovs, metrics: Metrics) {
    let mut again = tokio::time::interval(INTERVAL);
    loop {
        again.tick().await;
        let mut findings = host::check(&args, &ovs).await;
        findings.extend(peers::server(&client).await);
        metrics.checked(&findings);
    }
}
