//! Flags and environment; variables are kube-ovn's where it has them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use daemons::status::Question;

use crate::datapath::{Tunnel, Wanted};

/// Open vSwitch and ovn-controller of a node.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovs-ovn", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run until asked to stop.
    Run(Box<Run>),
    /// Ask the one that runs in this container how it is: the exit status is a probe's answer.
    Check(Check),
}

/// How to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Name of this node in Kubernetes: its host name for OVN, and the id of its chassis unless it has one.
    #[arg(long, env = "KUBE_NODE_NAME")]
    pub node_name: String,
    /// Addresses of the southbound database's servers, a list.
    #[arg(long, env = "OVN_DB_IPS", value_delimiter = ',')]
    pub sb: Vec<IpAddr>,
    /// Address of the Service `ovn-sb`, for when --sb names no servers.
    #[arg(long, env = "OVN_SB_SERVICE_HOST")]
    pub sb_service: Option<IpAddr>,
    /// TCP port of the southbound database.
    #[arg(long, env = "OVN_SB_SERVICE_PORT", default_value_t = 6642)]
    pub sb_port: u16,
    /// Which datapath forwards packets.
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    pub datapath: Wanted,
    /// How packets travel between nodes: which of the kernel's modules is needed.
    #[arg(long, value_enum, default_value_t = Tunnel::Geneve)]
    pub network_type: Tunnel,
    /// Interface for tunnels. On the userspace datapath it becomes a port of the bridge `br-phy`, which gets its addresses;
    /// on the kernel's it is left as it is.
    #[arg(long, default_value = "")]
    pub iface: String,
    /// Where the node's database is, and the id of its chassis.
    #[arg(long, default_value = "/etc/openvswitch")]
    pub database_directory: PathBuf,
    /// Where the installed schema is.
    #[arg(long, default_value = "/usr/share/openvswitch")]
    pub data_directory: PathBuf,
    /// How many seconds each of the daemons has to end when it is asked to.
    #[arg(long, default_value_t = 8)]
    pub grace: u64,
    /// Where sockets are.
    #[command(flatten)]
    pub directories: RunDirectories,
    /// What is logged, and how.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

/// What to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// What to ask.
    #[arg(value_enum)]
    pub question: Probe,
    /// Where sockets are.
    #[command(flatten)]
    pub directories: RunDirectories,
}

/// A probe of the kubelet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// This process answers, and so do the daemons that have come up.
    Live,
    /// All daemons do their work, and ovn-controller is connected to the southbound database.
    Ready,
}

/// Where sockets are.
#[derive(Clone, Debug, clap::Args)]
pub struct RunDirectories {
    /// Where the sockets of Open vSwitch are.
    #[arg(long, env = "OVS_RUNDIR", default_value = "/run/openvswitch")]
    pub run_directory: PathBuf,
    /// Where the sockets of OVN are.
    #[arg(long, env = "OVN_RUNDIR", default_value = "/run/ovn")]
    pub ovn_run_directory: PathBuf,
}

impl Run {
    /// Where ovn-controller finds the southbound database (`external_ids:ovn-remote`). An error names the flags.
    pub fn remote(&self) -> Result<String, String> {
        let servers = if self.sb.is_empty() { self.sb_service.as_slice() } else { &self.sb };
        if servers.is_empty() {
            return Err("neither --sb nor --sb-service says where the southbound database is".to_owned());
        }
        let remote = |ip: &IpAddr| format!("tcp:{}", std::net::SocketAddr::new(*ip, self.sb_port));
        Ok(servers.iter().map(remote).collect::<Vec<_>>().join(","))
    }

    /// How long each of the daemons has to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

impl RunDirectories {
    /// The socket at which this process is asked.
    pub fn status(&self) -> PathBuf {
        self.run_directory.join("ovs-ovn.sock")
    }
}

impl Probe {
    /// The same as process 1 knows it.
    pub fn question(self) -> Question {
        match self {
            Self::Live => Question::Live,
            Self::Ready => Question::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(more: &[&str]) -> Result<String, String> {
        match Args::try_parse_from(["ovs-ovn", "run", "--node-name=n1"].iter().chain(more)) {
            Ok(Args { verb: Verb::Run(run) }) => run.remote(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_manifests_command_lines_are_taken() {
        let manifest = std::fs::read_to_string(yamls::MANIFEST).unwrap();
        let objects = yamls::objects(&manifest).unwrap();
        let probes = yamls::probes(&objects, "ovs-ovn");
        assert_eq!(probes.len(), 2);
        // The node's name is in the environment.
        let run = yamls::command_line(&objects, "ovs-ovn").into_iter().chain(["--node-name=n1".to_owned()]);
        for line in probes.into_iter().chain([run.collect()]) {
            Args::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }

    #[test]
    fn servers_win_over_the_service_and_one_of_them_must_be_named() {
        assert_eq!(remote(&["--sb-service=10.96.0.7"]).unwrap(), "tcp:10.96.0.7:6642");
        let servers = remote(&["--sb-service=10.96.0.7", "--sb=10.0.0.1,fd00::1"]).unwrap();
        assert_eq!(servers, "tcp:10.0.0.1:6642,tcp:[fd00::1]:6642");
        assert!(remote(&[]).unwrap_err().contains("--sb"));
    }
}
