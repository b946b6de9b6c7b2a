//! Where ovn-controller finds the southbound database: `external_ids:ovn-remote` of the node's Open vSwitch.
//!
//! The servers are those of `--ovn-sb-addr`, or else all nodes with databases, without those that do not answer. ovn-controller
//! tries them in a random order, and keeps its connection as long as the server is among them. So databases can move, come and go
//! while nodes forward packets, and nothing on a node is started again.

mod answers;

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use keys::{Keys, Readiness};
use ovn::local::{REMOTE, SOUTHBOUND_CLUSTER};
use ovn::ports;
use ovsdb::client::{Endpoint, TlsFiles};
use tokio::sync::watch;

use self::answers::Answers;
use crate::databases::Databases;
use crate::ovs::Ovs;

/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// How long a change of the servers that answer waits for further ones.
const SETTLE: Duration = Duration::from_millis(500);

/// The servers of the southbound database.
#[derive(Debug)]
pub enum Servers {
    /// These, whatever the cluster says.
    Fixed(Vec<Endpoint>),
    /// Port 6642 of the nodes with databases, with TLS or without.
    Nodes {
        /// The nodes.
        databases: watch::Receiver<Databases>,
        /// Whether with TLS.
        tls: bool,
    },
}

impl Servers {
    /// Chooses the servers of the flag, if there are some.
    pub fn choose(flag: &[Endpoint], databases: &watch::Receiver<Databases>, tls: bool) -> Self {
        if flag.is_empty() { Self::Nodes { databases: databases.clone(), tls } } else { Self::Fixed(flag.to_vec()) }
    }

    /// Returns the servers. It is none while none is known: what the node has then stays, because a label that is gone for a
    /// moment says nothing about the databases.
    fn known(&mut self) -> Vec<Endpoint> {
        match self {
            Self::Fixed(endpoints) => endpoints.clone(),
            Self::Nodes { databases, tls } => of_nodes(&databases.borrow_and_update().nodes, *tls),
        }
    }

    /// Returns true if the cluster is known to have no node with a database.
    fn are_missing(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Nodes { databases, .. } => {
                let databases = databases.borrow();
                databases.known && databases.nodes.is_empty()
            }
        }
    }

    /// Waits until the servers may have changed. Returns false if they never will again.
    async fn changed(&mut self) -> bool {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Nodes { databases, .. } => databases.changed().await.is_ok(),
        }
    }
}

/// Keeps the key, also against others that change it, until nobody tells of the servers any more. With TLS, `key` is that of the
/// chassis, and it begins when there is one: ovn-controller would try without it, and then pause.
pub async fn keep(ovs: Ovs, mut servers: Servers, key: Option<(Keys, watch::Receiver<Readiness>)>) {
    let mut tls = None;
    if let Some((keys, mut ready)) = key {
        if ready.wait_for(Result::is_ok).await.is_err() {
            return;
        }
        tls = Some(tls_files(&keys));
    }
    let mut answers = Answers::new(tls);
    let mut changed = ovs.changed();
    ovs.settings_known().await;
    let mut said = false;
    let mut cluster = ovs.external_id(SOUTHBOUND_CLUSTER);
    // Whether ovn-controller has to connect at once.
    let mut connects = false;
    loop {
        let missing = servers.are_missing();
        if missing && !said {
            tracing::warn!(
                "no node has the labels of --database-nodes and an InternalIP, so ovn-controller is not told where the \
                 southbound database is: it keeps {:?}",
                ovs.external_id(REMOTE).unwrap_or_default()
            );
        }
        said = missing;
        let now = ovs.external_id(SOUTHBOUND_CLUSTER);
        let is_new_cluster = now.is_some() && cluster.is_some() && now != cluster;
        cluster = now.or(cluster);
        let recorded = ovs.external_id(REMOTE).unwrap_or_default();
        let left = answers.among(servers.known());
        connects |= is_new_cluster || answers.are_back();
        let remote = list(&left).map(|remote| with_order_of(&recorded, remote, connects));
        let differs = remote.as_ref().is_some_and(|remote| *remote != recorded);
        let written = match &remote {
            Some(remote) if differs => ovs.record(REMOTE, Some(remote)).await,
            _ => Ok(()),
        };
        connects &= written.is_err();
        match &written {
            Ok(()) if differs => tracing::info!(remote, "told ovn-controller where the southbound database is"),
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "ovn-controller is not told where the southbound database is; trying again");
            }
        }
        tokio::select! {
            more = servers.changed() => if !more { return },
            // Servers often change together, and ovn-controller starts anew with each list.
            () = answers.changed() => tokio::time::sleep(SETTLE).await,
            // Open vSwitch is back, or somebody else has changed the key.
            ovs = changed.changed() => if ovs.is_err() { return },
            () = tokio::time::sleep(RETRY), if written.is_err() => {}
        }
    }
}

/// Returns the servers in a value of `ovn-remote`. Their order means nothing, and one can be there twice.
pub fn in_list(remote: &str) -> BTreeSet<&str> {
    remote.split(',').map(str::trim).filter(|server| !server.is_empty()).collect()
}

/// Returns the servers in the order in which they are recorded, if those are the same ones. With `connect`, they get another
/// order: ovn-controller connects at once to a list that has changed. Else, it pauses for up to 8 s after servers that were away, or
/// that it has refused, as one of a new cluster before it is told of that.
fn with_order_of(recorded: &str, servers: String, connect: bool) -> String {
    let is_same = in_list(recorded) == in_list(&servers);
    let servers = if is_same { recorded.to_owned() } else { servers };
    if !connect {
        return servers;
    }
    match servers.split_once(',') {
        Some((first, others)) if first == others => first.to_owned(),
        Some((first, others)) => format!("{others},{first}"),
        // The same one twice is another list, too.
        None => format!("{servers},{servers}"),
    }
}

fn of_nodes(addresses: &BTreeSet<IpNet>, tls: bool) -> Vec<Endpoint> {
    let endpoint = |address: &IpNet| match (address.addr().to_string(), ports::SOUTHBOUND) {
        (host, port) if tls => Endpoint::Ssl { host, port },
        (host, port) => Endpoint::Tcp { host, port },
    };
    addresses.iter().map(endpoint).collect()
}

fn list(servers: &[Endpoint]) -> Option<String> {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    (!servers.is_empty()).then(|| servers.join(","))
}

/// Returns the files of the chassis' key, for a client of the southbound database.
pub fn tls_files(keys: &Keys) -> TlsFiles {
    TlsFiles { private_key: keys.own(), certificate: keys.own(), ca_cert: keys.trusted() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_with_databases_are_servers_and_none_is_no_answer() {
        let nodes = |of: &[&str]| list(&of_nodes(&of.iter().map(|address| address.parse().unwrap()).collect(), false));
        let three = nodes(&["172.30.0.3/32", "172.30.0.1/32", "fd00:30::1/128"]);
        assert_eq!(three.as_deref(), Some("tcp:172.30.0.1:6642,tcp:172.30.0.3:6642,tcp:[fd00:30::1]:6642"));
        assert_eq!(nodes(&[]), None);
        let fixed = ["tcp:10.0.0.1:7642", "tcp:[fd00::1]:6642"].map(|text| text.parse().unwrap());
        let labelled = Databases { nodes: ["172.30.0.1/32".parse().unwrap()].into(), ..Databases::default() };
        let labelled = watch::channel(labelled).1;
        let chosen = |flag: &[Endpoint]| list(&Servers::choose(flag, &labelled, true).known());
        assert_eq!(chosen(&fixed).as_deref(), Some("tcp:10.0.0.1:7642,tcp:[fd00::1]:6642"));
        assert_eq!(chosen(&[]).as_deref(), Some("ssl:172.30.0.1:6642"));
    }

    #[test]
    fn a_new_cluster_makes_ovn_controller_connect_at_once() {
        let order = |recorded: &str, connect| with_order_of(recorded, "a,b,c".to_owned(), connect);
        assert_eq!([order("", false), order("x", false), order("b,c,a", false)], ["a,b,c", "a,b,c", "b,c,a"]);
        assert_eq!([order("a,b,c", true), order("b,c,a", true)], ["b,c,a", "c,a,b"]);
        let one = |recorded: &str, connect| with_order_of(recorded, "a".to_owned(), connect);
        assert_eq!([one("", true), one("a", true), one("a,a", true), one("a,a", false)], ["a,a", "a,a", "a", "a,a"]);
    }
}
