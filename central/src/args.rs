//! Flags and environment. Ports, paths and variables are kube-ovn's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use daemons::status::Question;

/// One member of OVN's centre.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovn-central", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run both databases and northd until asked to stop.
    Run(Run),
    /// Ask the one that runs in this container how it is: the exit status is a probe's answer.
    Check(Check),
}

/// How to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// This member's own address, by which other members will reach it.
    #[arg(long, env = "POD_IP", value_parser = own_address)]
    pub address: IpAddr,
    /// Where clients are served, a list of addresses; when absent, on all of both families.
    #[arg(long, value_delimiter = ',')]
    pub listen: Vec<IpAddr>,
    /// TCP port of the northbound database.
    #[arg(long, default_value_t = 6641)]
    pub nb_port: u16,
    /// TCP port of the southbound database.
    #[arg(long, default_value_t = 6642)]
    pub sb_port: u16,
    /// TCP port at which the members of the northbound cluster meet. The Service `ovn-northd` leads here too.
    #[arg(long, default_value_t = 6643)]
    pub nb_raft_port: u16,
    /// TCP port at which the members of the southbound cluster meet.
    #[arg(long, default_value_t = 6644)]
    pub sb_raft_port: u16,
    /// Where the databases' files are.
    #[arg(long, default_value = "/etc/ovn")]
    pub database_directory: PathBuf,
    /// Where the installed schemas are.
    #[arg(long, default_value = "/usr/share/ovn")]
    pub schema_directory: PathBuf,
    /// How many threads northd computes with.
    #[arg(long, env = "OVN_NORTHD_N_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub northd_threads: u16,
    /// After how many ms of silence a client is asked whether it is there, and after as many more it is taken for gone; 0:
    /// never. A chassis with many flows to compute can be silent for long.
    #[arg(long, env = "PROBE_INTERVAL", default_value_t = 180_000)]
    pub probe_interval: u32,
    /// How many seconds each of the daemons has to end when it is asked to.
    #[arg(long, default_value_t = 8)]
    pub grace: u64,
    /// Where the sockets are.
    #[command(flatten)]
    pub directory: RunDirectory,
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
    /// Where the sockets are.
    #[command(flatten)]
    pub directory: RunDirectory,
}

/// A probe of the kubelet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// This process answers, and so do the daemons that have come up.
    Live,
    /// Both databases lead and answer at their ports, and northd is active.
    Ready,
}

/// Where the sockets are.
#[derive(Clone, Debug, clap::Args)]
pub struct RunDirectory {
    /// Where the sockets are.
    #[arg(long, env = "OVN_RUNDIR", default_value = "/run/ovn")]
    pub run_directory: PathBuf,
}

impl Run {
    /// Where clients are served. Without a word about it on all addresses: `::` takes IPv4 too. Where IPv6 is turned off by
    /// sysctl, `::` can still be listened at, but no address of the family is there, not even the one to probe it by.
    pub fn listen(&self) -> Vec<IpAddr> {
        if !self.listen.is_empty() {
            return self.listen.clone();
        }
        let both = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        vec![if both { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }]
    }

    /// How long each of the daemons has to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

impl RunDirectory {
    /// The socket at which this process is asked.
    pub fn status(&self) -> PathBuf {
        self.run_directory.join("ovn-central.sock")
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

/// An address that this machine has.
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
            Ok(Args { verb: Verb::Run(run) }) => Ok(run),
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
        // The member's address is in the environment.
        let run = yamls::command_line(&objects, "ovn-central").into_iter().chain(["--address=127.0.0.1".to_owned()]);
        for line in probes.into_iter().chain([run.collect()]) {
            Args::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
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
