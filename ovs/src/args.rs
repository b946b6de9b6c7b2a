//! Flags and environment variables. Variables have the same names as in kube-ovn where kube-ovn has them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use daemons::status::Question;
use ovn::Encapsulation;

use crate::datapath::Wanted;

/// Open vSwitch and ovn-controller of a node.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovs-ovn", version)]
pub struct Args {
    /// The command to run.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run until a stop signal.
    Run(Box<Run>),
    /// Load the modules of the kernel datapath, as far as the machine has them. `run` needs no right to do that then, and says
    /// what is missing.
    Modules(Modules),
    /// Query the health of the daemons in this container. The exit status is the result of the probe.
    Check(Check),
}

/// The options of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Name of the Kubernetes node. It is the host name in OVN, and the default ID of the chassis follows from it.
    #[arg(long, env = "KUBE_NODE_NAME")]
    pub node_name: String,
    /// Has no effect: the node agent tells ovn-controller of the southbound database. Units of an earlier version have it.
    #[arg(long, hide = true)]
    pub sb: Option<String>,
    /// Datapath that forwards packets.
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    pub datapath: Wanted,
    /// Encapsulation between nodes. It determines the required kernel module.
    #[arg(long, default_value_t = Encapsulation::Geneve, value_parser = encapsulation())]
    pub network_type: Encapsulation,
    /// Interface for tunnels. With the userspace datapath it becomes a port of the bridge `br-phy`, which takes over
    /// its addresses. With the kernel datapath it is not changed.
    #[arg(long, default_value = "")]
    pub iface: String,
    /// Directory of the node's database and of the chassis ID.
    #[arg(long, default_value = "/etc/openvswitch")]
    pub database_directory: PathBuf,
    /// Directory of the installed schema.
    #[arg(long, default_value = "/usr/share/openvswitch")]
    pub data_directory: PathBuf,
    /// Time in seconds that each daemon has to stop after a stop request. ovs-vswitchd needs it for the dump of its flows:
    /// 100,000 flows take seconds on a busy node.
    #[arg(long, default_value_t = 25)]
    pub grace: u64,
    /// The directories of the sockets.
    #[command(flatten)]
    pub directories: RunDirectories,
    /// The log flags.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

/// The options of `modules`.
#[derive(Clone, Debug, clap::Args)]
pub struct Modules {
    /// Datapath that forwards packets. The userspace datapath needs no modules.
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    pub datapath: Wanted,
    /// Encapsulation between nodes. It determines the required kernel module.
    #[arg(long, default_value_t = Encapsulation::Geneve, value_parser = encapsulation())]
    pub network_type: Encapsulation,
}

/// The options of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// The health check to query. `live`: this process answers, and so do the database server and ovs-vswitchd if they
    /// have started.
    /// `ready`: all daemons work, and ovn-controller is connected to the southbound database.
    pub question: Question,
    /// The directories of the sockets.
    #[command(flatten)]
    pub directories: RunDirectories,
}

/// The directories of the sockets.
#[derive(Clone, Debug, clap::Args)]
pub struct RunDirectories {
    /// Directory of the Open vSwitch sockets.
    #[arg(long, env = "OVS_RUNDIR", default_value = "/run/openvswitch")]
    pub run_directory: PathBuf,
    /// Directory of the OVN sockets.
    #[arg(long, env = "OVN_RUNDIR", default_value = "/run/ovn")]
    pub ovn_run_directory: PathBuf,
}

impl Run {
    /// Returns the time that each daemon has to stop.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

impl RunDirectories {
    /// Returns the path of the status socket.
    pub fn status(&self) -> PathBuf {
        self.run_directory.join("ovs-ovn.sock")
    }
}

/// Linux has no module for STT.
fn encapsulation() -> impl TypedValueParser<Value = Encapsulation> {
    let served = [Encapsulation::Geneve, Encapsulation::Vxlan];
    PossibleValuesParser::new(served.map(Encapsulation::as_str)).try_map(|name| name.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_command_lines_are_taken() {
        let manifest = std::fs::read_to_string(yamls::MANIFEST).unwrap();
        let objects = yamls::objects(&manifest).unwrap();
        let probes = yamls::probes(&objects, "ovs-ovn");
        assert_eq!(probes.len(), 2);
        // The kubelet waits until each daemon has had its time.
        let Ok(Args { verb: Verb::Run(run) }) = Args::try_parse_from(["ovs-ovn", "run", "--node-name=n1"]) else {
            panic!("the defaults are refused")
        };
        let grace = yamls::grace(&objects, "ovs-ovn").unwrap();
        assert!(grace > 3 * run.grace, "{grace} s of the pod are less than three times {} s", run.grace);
        // The environment contains the node's name.
        let run = yamls::command_line(&objects, "ovs-ovn").into_iter().chain(["--node-name=n1".to_owned()]);
        for line in probes.into_iter().chain([run.collect()]) {
            Args::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }

    #[test]
    fn an_encapsulation_without_a_module_is_refused() {
        let parse = |name: &str| {
            let line = ["ovs-ovn", "run", "--node-name=n1", &format!("--network-type={name}")];
            match Args::try_parse_from(line).map_err(|error| error.to_string())?.verb {
                Verb::Run(run) => Ok(run.network_type),
                other => Err(format!("{other:?}")),
            }
        };
        assert_eq!(parse("vxlan"), Ok(Encapsulation::Vxlan));
        let refused = parse("stt").unwrap_err();
        assert!(refused.contains("[possible values: geneve, vxlan]"), "{refused}");
    }
}
