//! Flags and environment variables. Ports, paths and variables have the same names and defaults as in kube-ovn.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use daemons::status::Question;
use keys::Keys;
use ovn::ports;

use crate::backup::Backups;

/// One member of the OVN central: both databases and ovn-northd.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovn-central", version)]
pub struct Args {
    /// The command to run.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run both databases and northd until a stop signal.
    Run(Box<Run>),
    /// Query the health of the member in this container. The exit status is the result of the probe.
    Check(Check),
    /// Replace the contents of the northbound database by those of a backup.
    Restore(Restore),
}

/// The options of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Address of this member, at which other members reach it.
    #[arg(long, env = "POD_IP", value_parser = own_address)]
    pub address: IpAddr,
    /// Comma-separated addresses of all members, the same list for each of them. A member without data joins the others. A
    /// member that is alone in the list founds a cluster. Default: only this member.
    #[arg(long, env = "NODE_IPS", value_delimiter = ',')]
    pub members: Vec<IpAddr>,
    /// Where this member is in Kubernetes.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
    /// Comma-separated addresses on which to serve clients. Default: all IPv4 and IPv6 addresses.
    #[arg(long, value_delimiter = ',')]
    pub listen: Vec<IpAddr>,
    /// TCP port of the northbound database.
    #[arg(long, default_value_t = ports::NORTHBOUND)]
    pub nb_port: u16,
    /// TCP port of the southbound database.
    #[arg(long, default_value_t = ports::SOUTHBOUND)]
    pub sb_port: u16,
    /// TCP port for the Raft traffic of the northbound cluster. The Service `ovn-northd` also targets this port.
    #[arg(long, default_value_t = ports::NORTHBOUND_RAFT)]
    pub nb_raft_port: u16,
    /// TCP port for the Raft traffic of the southbound cluster.
    #[arg(long, default_value_t = ports::SOUTHBOUND_RAFT)]
    pub sb_raft_port: u16,
    /// TCP port of the southbound database for the controllers and for other members. The port of the chassis limits each of
    /// them to its own rows.
    #[arg(long, default_value_t = ports::SOUTHBOUND_ADMIN)]
    pub sb_admin_port: u16,
    /// TLS on all ports, with keys for members, controllers and chassis. In Kubernetes, the members issue them. Without
    /// (`--members`), they are in the directory `keys` beside the databases: `tls.pem`, the private key and the certificate of
    /// this member, and `ca.pem`, the certificates of the authorities. With `--tls=false`, everybody who reaches the ports can
    /// change the whole network.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub tls: bool,
    /// Directory of the database files.
    #[arg(long, default_value = "/etc/ovn")]
    pub database_directory: PathBuf,
    /// Directory of the installed schemas.
    #[arg(long, default_value = "/usr/share/ovn")]
    pub schema_directory: PathBuf,
    /// Number of threads of northd.
    #[arg(long, env = "OVN_NORTHD_N_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub northd_threads: u16,
    /// Time in milliseconds without data after which the server probes a client, and then again the time until it drops
    /// the client. 0 disables the probe. A chassis that computes many flows can be silent for a long time.
    #[arg(long, env = "PROBE_INTERVAL", default_value_t = 180_000)]
    pub probe_interval: u32,
    /// Time in milliseconds without a word of the leader after which a server of a cluster starts an election. It takes up to twice
    /// as long until another one leads. Increase it where servers are busy, or their disks slow, for longer than that. With
    /// --members, the cluster keeps what it has: `ovs-appctl cluster/change-election-timer`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=600_000))]
    pub election_timer: u32,
    /// Time in hours from one backup of the northbound database to the next. The member that leads makes them, in the directory
    /// `backups` beside the database. One is also made before the schema is converted. 0: none.
    #[arg(long, default_value_t = 24)]
    pub backup_interval: u32,
    /// Number of backups that each member keeps.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub backups: u16,
    /// Time in seconds that each daemon has to stop after a stop request.
    #[arg(long, default_value_t = 8)]
    pub grace: u64,
    /// Number of the unprivileged user, and of its group, that this process and the daemons run as. The directories of the
    /// database files and of the sockets are given to it. Needs root at the start. Default: the user that starts it.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub run_as: Option<u32>,
    /// The directory of the sockets.
    #[command(flatten)]
    pub directory: RunDirectory,
    /// The log flags.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

/// The options of a member that agrees with the others in Kubernetes.
#[derive(Clone, Debug, clap::Args)]
pub struct Kubernetes {
    /// Name of this member's node. With it, the members are the nodes with the labels of --database-nodes, and they record in
    /// the ConfigMap `ovn-central` what they do to their clusters: lost and damaged files are replaced, and members come and
    /// go with the labels.
    #[arg(long, env = "KUBE_NODE_NAME", conflicts_with = "members")]
    pub node_name: Option<String>,
    /// Labels of the nodes with members, comma-separated, as a label selector.
    #[arg(long, default_value = "kube-ovn/role=master", requires = "node_name")]
    pub database_nodes: String,
    /// Namespace of the ConfigMap and of the members' pods.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kube-system")]
    pub namespace: String,
    /// Name of this member's pod, which is labelled while its servers lead. Default: none is labelled.
    #[arg(long, env = "POD_NAME", requires = "node_name")]
    pub pod_name: Option<String>,
    /// Path of a kubeconfig. Default: the service account of the pod.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

/// The options of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    /// The health check to query. `live`: this process answers, and so does every daemon that has started.
    /// `ready`: both databases are connected to the leaders of their clusters and answer on their ports, and northd is
    /// active or, beside other members, on standby. The port of a southbound database is not open before northd has written
    /// to it.
    pub question: Question,
    /// The directory of the sockets.
    #[command(flatten)]
    pub directory: RunDirectory,
}

/// The options of `restore`.
#[derive(Clone, Debug, clap::Args)]
pub struct Restore {
    /// The backup: `backups/ovnnb_db-<time>.backup` in the directory of the database files.
    pub file: PathBuf,
    /// The directory of the sockets.
    #[command(flatten)]
    pub directory: RunDirectory,
}

/// The directory of the sockets.
#[derive(Clone, Debug, clap::Args)]
pub struct RunDirectory {
    /// Directory of the sockets.
    #[arg(long, env = "OVN_RUNDIR", default_value = "/run/ovn")]
    pub run_directory: PathBuf,
}

impl Run {
    /// Returns the addresses on which to serve clients. The default is `::`, which includes IPv4. If a sysctl disables
    /// IPv6, binding `::` still succeeds, but the machine has no IPv6 address, not even for the probe. The default is
    /// then `0.0.0.0`.
    pub fn listen(&self) -> Vec<IpAddr> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        let both = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        vec![if both { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }]
    }

    /// Returns the addresses of the other members. An error names the flags.
    pub fn others(&self) -> Result<Vec<IpAddr>, String> {
        if !self.members.is_empty() && !self.members.contains(&self.address) {
            return Err(format!("--members does not contain --address {}", self.address));
        }
        let others: BTreeSet<_> = self.members.iter().filter(|member| **member != self.address).collect();
        if others.len() % 2 == 1 {
            tracing::warn!("an even number of members tolerates no more losses than one member less");
        }
        Ok(others.into_iter().copied().collect())
    }

    /// Returns where the member's key is.
    pub fn keys(&self) -> Keys {
        Keys::new(self.database_directory.join("keys"))
    }

    /// Returns how the northbound database is backed up.
    pub fn backups(&self) -> Backups {
        let every = (self.backup_interval > 0).then(|| Duration::from_hours(self.backup_interval.into()));
        let socket = self.directory.northbound();
        Backups { directory: self.database_directory.join("backups"), socket, every, keep: self.backups.into() }
    }

    /// Returns the time that each daemon has to stop.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

impl RunDirectory {
    /// Returns the path of the socket of the northbound database.
    pub fn northbound(&self) -> PathBuf {
        self.run_directory.join("ovnnb_db.sock")
    }

    /// Returns the path of the status socket.
    pub fn status(&self) -> PathBuf {
        self.run_directory.join("ovn-central.sock")
    }
}

/// Parses an address and checks that this machine has it.
fn own_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IP address".to_owned())?;
    if address.is_unspecified() || address.is_multicast() {
        return Err("other members cannot reach this one by it".to_owned());
    }
    TcpListener::bind((address, 0)).map_err(|error| format!("this machine does not have it: {error}"))?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(more: &[&str]) -> Result<Run, String> {
        match Args::try_parse_from(["ovn-central", "run"].iter().chain(more)) {
            Ok(Args { verb: Verb::Run(run) }) => Ok(*run),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn ports_and_paths_are_kube_ovns() {
        let run = run(&["--address=127.0.0.1"]).unwrap();
        assert_eq!((run.nb_port, run.sb_port, run.nb_raft_port, run.sb_raft_port), (6641, 6642, 6643, 6644));
        assert_eq!(run.database_directory, PathBuf::from("/etc/ovn"));
        assert_eq!(run.directory.status(), PathBuf::from("/run/ovn/ovn-central.sock"));
        assert!(run.listen()[0].is_unspecified());
    }

    #[test]
    fn the_manifests_command_lines_are_taken() {
        let manifest = std::fs::read_to_string(yamls::MANIFEST).unwrap();
        let objects = yamls::objects(&manifest).unwrap();
        let probes = yamls::probes(&objects, "ovn-central");
        assert_eq!(probes.len(), 2);
        // The environment contains the member's address and the name of its node.
        let environment = ["--address=127.0.0.1", "--node-name=n1"].map(str::to_owned);
        let run = yamls::command_line(&objects, "ovn-central").into_iter().chain(environment);
        for line in probes.into_iter().chain([run.collect()]) {
            Args::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }

    #[test]
    fn a_member_is_one_of_the_members() {
        let others = |members: &[&str]| run(&[["--address=127.0.0.1"].as_slice(), members].concat()).unwrap().others();
        assert!(others(&[]).unwrap().is_empty());
        assert!(others(&["--members=127.0.0.1"]).unwrap().is_empty());
        let two = ["127.0.0.2", "::1"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(others(&["--members=::1,127.0.0.1,127.0.0.2,127.0.0.2"]).unwrap(), two);
        let mut elsewhere = run(&["--address=127.0.0.1", "--members=127.0.0.1"]).unwrap();
        elsewhere.address = Ipv4Addr::new(10, 0, 0, 9).into();
        assert_eq!(elsewhere.others().unwrap_err(), "--members does not contain --address 10.0.0.9");
    }

    #[test]
    fn what_cannot_be_the_address_of_this_member_is_refused_by_the_flags_name() {
        for (address, why) in [
            ("10.0.0.256", "not an IP address"),
            ("0.0.0.0", "other members cannot reach this one by it"),
            ("203.0.113.7", "this machine does not have it: "),
        ] {
            let refused = run(&["--address", address]).unwrap_err();
            assert!(
                refused.contains(&format!("invalid value '{address}' for '--address <ADDRESS>': {why}")),
                "{refused}"
            );
        }
    }
}
