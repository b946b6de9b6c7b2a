//! `lab`: starts a cluster on this machine, gives access to it, and stops it.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use e2e::install::Way;
use e2e::layout::{Node, OUTSIDE_NETNS, kubeconfig, state};
use e2e::{bare, by_hand, central, control, down, kube, node, process, rootfs, systemd, up};

/// A real Kubernetes and OVN cluster on one machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the cluster and leave it running.
    Up {
        /// Number of nodes, 1 to 3.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// Parts to omit. Only `kube-ovn`, the network, can be omitted.
        #[arg(long)]
        without: Vec<String>,
        /// Install the network without pods, from the current build, as described in docs/by-hand.md.
        #[arg(long, conflicts_with = "without")]
        by_hand: bool,
        /// Install the network with the unchanged manifest instead of the chart with the lab's values.
        #[arg(long, conflicts_with_all = ["without", "by_hand"])]
        manifest: bool,
        /// Start two nodes without kubelets and containers, on the kernel's Open vSwitch; see e2e/vm/run.
        #[arg(long, conflicts_with_all = ["without", "by_hand", "manifest"])]
        bare: bool,
    },
    /// Stop the cluster and remove everything, even after a failed start.
    Down,
    /// Run a command on a node (n1..) or outside of the cluster (lab-out).
    Exec {
        /// Node name or lab-out.
        host: String,
        /// Command with its arguments. OVN and OVS commands run in the node's own version, and systemctl is the lab's.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run kubectl as the cluster admin.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run ovn-nbctl.
    #[command(disable_help_flag = true)]
    Nbctl(Rest),
    /// Run ovn-sbctl.
    #[command(disable_help_flag = true)]
    Sbctl(Rest),
    /// Restart `controller` (both replicas) or `agent` (all nodes) with the current build, in a lab made by hand.
    Restart {
        /// `controller` or `agent`.
        what: String,
    },
    /// Run etcd and the API server for a lab in a virtual machine, until this process ends.
    #[command(hide = true)]
    Control,
    /// Create a node's namespaces.
    #[command(hide = true)]
    NodeStart { node: String },
    /// Run as a node's process 1.
    #[command(hide = true)]
    NodeInit { node: String },
    /// Start a node's systemd.
    #[command(hide = true)]
    Boot { node: String },
    /// Run as a node's systemd.
    #[command(hide = true)]
    BootInit { node: String },
    /// Replace a program that docs/by-hand.md assumes and a lab lacks.
    #[command(hide = true)]
    StandIn {
        name: String,
        #[command(flatten)]
        arguments: Rest,
    },
    /// Run a command in a node's Debian.
    #[command(hide = true)]
    Chroot {
        /// Path of the root file system.
        #[arg(long)]
        root: PathBuf,
        #[command(flatten)]
        command: Rest,
    },
}

#[derive(clap::Args)]
struct Rest {
    /// Arguments of the program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Up { bare: true, .. } => wait_for(bare::up())??,
        Verb::Up { nodes, without, by_hand, manifest, bare: false } => {
            if let Some(other) = without.iter().find(|w| *w != "kube-ovn") {
                bail!("--without {other}: only kube-ovn can be left out");
            }
            let network = match without.is_empty() {
                _ if by_hand => up::Network::ByHand,
                true => up::Network::Installed(if manifest { Way::Manifest } else { Way::Helm }),
                false => up::Network::None,
            };
            let start = Instant::now();
            wait_for(up::up(up::Spec { nodes, network }))??;
            println!("{}", look_around(nodes, start));
        }
        Verb::Down => wait_for(down::down())??,
        Verb::Restart { what } => wait_for(by_hand::restart(&what))??,
        Verb::Exec { host, command } => match exec(&host, &command)? {},
        Verb::Kubectl(rest) => {
            let mut command = Command::new(kube::program("kubectl"));
            command.env("KUBECONFIG", kubeconfig()).args(rest.arguments);
            match become_it(command)? {}
        }
        Verb::Nbctl(rest) => match become_it(central::command("ovn-nbctl", &words(&rest.arguments))?)? {},
        Verb::Sbctl(rest) => match become_it(central::command("ovn-sbctl", &words(&rest.arguments))?)? {},
        // These change the namespaces of the process, so they must not run in a multi-threaded runtime.
        Verb::Control => control::run()?,
        Verb::NodeStart { node } => node::start(named(&node)?)?,
        Verb::NodeInit { node } => match node::init(named(&node)?)? {},
        Verb::Boot { node } => systemd::start(named(&node)?)?,
        Verb::BootInit { node } => match systemd::init(named(&node)?)? {},
        Verb::StandIn { name, arguments } => by_hand::stand_in::act(&name, &arguments.arguments)?,
        Verb::Chroot { root, command } => {
            let (program, arguments) = command.arguments.split_first().context("chroot: no command")?;
            match rootfs::enter(&root, program, arguments)? {}
        }
    }
    Ok(())
}

fn wait_for<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Runtime::new()?.block_on(future))
}

fn named(node: &str) -> Result<Node> {
    Node::named(node).with_context(|| format!("no node is called {node}"))
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn exec(host: &str, command: &[String]) -> Result<Infallible> {
    let arguments = words(command);
    let (program, arguments) = arguments.split_first().context("exec: no command")?;
    if host == OUTSIDE_NETNS {
        return become_it(process::in_netns(host, program, arguments));
    }
    let node = named(host)?;
    let debian = ["ovs-", "ovn-", "kube-ovn-", "ovsdb-client", "systemctl", "journalctl"];
    if debian.iter().any(|beginning| program.starts_with(beginning)) {
        return become_it(rootfs::on(node, program, arguments)?);
    }
    become_it(process::on(node, program, arguments)?)
}

fn become_it(mut command: Command) -> Result<Infallible> {
    Err(command.exec()).with_context(|| command.get_program().display().to_string())
}

fn look_around(nodes: u8, start: Instant) -> String {
    let lab = std::env::current_exe().map_or_else(|_| "lab".to_owned(), |p| p.display().to_string());
    let (took, config, logs) = (start.elapsed().as_secs_f32(), kubeconfig(), state("log"));
    format!(
        "A cluster with {nodes} node(s) is up after {took:.1} s. To look around:
  export KUBECONFIG={}            for a kubectl of your own, or
  {lab} kubectl get nodes,pods -A -o wide
  {lab} nbctl show                         what OVN is told
  {lab} exec n1 ip address                 on a node
  {lab} exec n1 ovs-vsctl show             with the node's own OVS
  {lab} exec lab-out ping 172.30.0.1       from outside of the cluster
  ls {}           what every process said
  {lab} down                               to end it",
        config.display(),
        logs.display()
    )
}
