//! Where ovn-controller finds the southbound database: `external_ids:ovn-remote` of the node's Open vSwitch.
//!
//! The servers are those of `--ovn-sb-addr`, or else all nodes with databases. ovn-controller tries them in a random order, and
//! keeps its connection as long as the server is among them. So databases can move, come and go while nodes forward packets,
//! and nothing on a node is started again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ovn::local::REMOTE;
use ovsdb::client::Endpoint;
use tokio::sync::watch;

use crate::databases::Databases;
use crate::ovs::Ovs;

/// The port of the southbound database.
const PORT: u16 = 6642;

/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The servers of the southbound database.
#[derive(Debug)]
pub enum Servers {
    /// These, whatever the cluster says.
    Fixed(Vec<Endpoint>),
    /// Port 6642 of the nodes with databases.
    Nodes(watch::Receiver<Databases>),
}

impl Servers {
    /// Chooses the servers of the flag, if there are some.
    pub fn choose(flag: &[Endpoint], databases: &watch::Receiver<Databases>) -> Self {
        if flag.is_empty() { Self::Nodes(databases.clone()) } else { Self::Fixed(flag.to_vec()) }
    }

    /// Returns the value of the key. `None` while no server is known: what the node has then stays, because a label that is
    /// gone for a moment says nothing about the databases.
    fn remote(&mut self) -> Option<String> {
        match self {
            Self::Fixed(endpoints) => list(endpoints.iter().map(ToString::to_string)),
            Self::Nodes(databases) => of_nodes(&databases.borrow_and_update().nodes),
        }
    }

    /// Returns true if the cluster is known to have no node with a database.
    fn are_missing(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Nodes(databases) => {
                let databases = databases.borrow();
                databases.known && databases.nodes.is_empty()
            }
        }
    }

    /// Waits until the servers may have changed. Returns false if they never will again.
    async fn changed(&mut self) -> bool {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Nodes(databases) => databases.changed().await.is_ok(),
        }
    }
}

/// Keeps the key, also against others that change it, until nobody tells of the servers any more.
pub async fn keep(ovs: Ovs, mut servers: Servers) {
    let mut changed = ovs.changed();
    ovs.settings_known().await;
    let mut said = false;
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
        let remote = servers.remote();
        let differs = remote.is_some() && ovs.external_id(REMOTE) != remote;
        let written = match &remote {
            Some(remote) if differs => ovs.record(REMOTE, Some(remote)).await,
            _ => Ok(()),
        };
        match &written {
            Ok(()) if differs => tracing::info!(remote, "told ovn-controller where the southbound database is"),
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "ovn-controller is not told where the southbound database is; trying again");
            }
        }
        tokio::select! {
            more = servers.changed() => if !more { return },
            // Open vSwitch is back, or somebody else has changed the key.
            ovs = changed.changed() => if ovs.is_err() { return },
            () = tokio::time::sleep(RETRY), if written.is_err() => {}
        }
    }
}

fn of_nodes(addresses: &BTreeSet<IpNet>) -> Option<String> {
    list(addresses.iter().map(|address| format!("tcp:{}", SocketAddr::new(address.addr(), PORT))))
}

fn list(servers: impl Iterator<Item = String>) -> Option<String> {
    let servers: Vec<_> = servers.collect();
    (!servers.is_empty()).then(|| servers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_with_databases_are_servers_and_none_is_no_answer() {
        let nodes = |list: &[&str]| of_nodes(&list.iter().map(|address| address.parse().unwrap()).collect());
        let three = nodes(&["172.30.0.3/32", "172.30.0.1/32", "fd00:30::1/128"]);
        assert_eq!(three.as_deref(), Some("tcp:172.30.0.1:6642,tcp:172.30.0.3:6642,tcp:[fd00:30::1]:6642"));
        assert_eq!(nodes(&[]), None);
        let fixed = ["tcp:10.0.0.1:7642", "tcp:[fd00::1]:6642"].map(|text| text.parse().unwrap());
        let labelled = Databases { nodes: ["172.30.0.1/32".parse().unwrap()].into(), ..Databases::default() };
        let labelled = watch::channel(labelled).1;
        let chosen = |flag: &[Endpoint]| Servers::choose(flag, &labelled).remote();
        assert_eq!(chosen(&fixed).as_deref(), Some("tcp:10.0.0.1:7642,tcp:[fd00::1]:6642"));
        assert_eq!(chosen(&[]).as_deref(), Some("tcp:172.30.0.1:6642"));
    }
}
