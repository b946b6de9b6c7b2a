//! The nodes with OVN databases, whose ports pods must not reach.
//!
//! They are those with the labels of `--database-nodes`. A node that is one of them watches all nodes, because it lets only
//! nodes in. Other nodes do not: the nodes of a large cluster would keep the API server busy with each other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::NodeView;
use ipnet::IpNet;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::seen::{self, Seen, publish};

/// The nodes with databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    /// Whether the nodes have been listed.
    pub known: bool,
    /// The addresses of the nodes with databases.
    pub nodes: BTreeSet<IpNet>,
    /// The addresses of all nodes, if this node has databases.
    pub members: Option<BTreeSet<IpNet>>,
}

/// The addresses of nodes, by their names.
type Addresses = Seen<Vec<IpAddr>>;

/// Starts the watches for the node with this name. `labels` selects the nodes with databases; without any, there are none.
pub fn watch(client: &Client, node: &str, labels: &str) -> watch::Receiver<Databases> {
    if labels.is_empty() {
        return watch::channel(Databases { known: true, ..Databases::default() }).1;
    }
    let labels = labels.to_owned();
    let (sender, receiver) = watch::channel(Databases::default());
    let (client, node) = (client.clone(), node.to_owned());
    let addresses = move |config| {
        let read = |node: NodeView| Some((node.name().to_owned(), node.internal_ips().collect()));
        seen::keep("nodes", Api::all(client.clone()), config, read)
    };
    tokio::spawn(async move {
        let mut labelled = addresses(watcher::Config::default().labels(&labels));
        let mut all: Option<watch::Receiver<Addresses>> = None;
        loop {
            let here = labelled.borrow_and_update().clone();
            if here.objects.contains_key(&node) && all.is_none() {
                all = Some(addresses(watcher::Config::default()));
            }
            let everyone = all.as_mut().map(|all| all.borrow_and_update().clone());
            publish(&sender, databases(&node, &here, everyone.as_ref()));
            let more = async {
                match &mut all {
                    Some(all) => all.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = labelled.changed() => {}
                Ok(()) = more => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

fn databases(node: &str, labelled: &Addresses, all: Option<&Addresses>) -> Databases {
    let networks = |seen: &Addresses| seen.objects.values().flatten().map(|address| IpNet::from(*address)).collect();
    let all = all.filter(|_| labelled.objects.contains_key(node));
    Databases {
        known: labelled.synced && all.is_none_or(|all| all.synced),
        nodes: networks(labelled),
        members: all.map(networks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(synced: bool, nodes: &[(&str, &str)]) -> Addresses {
        let objects = nodes.iter().map(|(name, ip)| ((*name).to_owned(), vec![ip.parse().unwrap()]));
        Seen { synced, objects: objects.collect() }
    }

    #[test]
    fn only_a_node_with_databases_needs_the_addresses_of_all_nodes() {
        let labelled = seen(true, &[("n1", "172.30.0.1")]);
        let all = seen(true, &[("n1", "172.30.0.1"), ("n2", "172.30.0.2")]);
        let other = databases("n2", &labelled, None);
        assert!(other.known && other.members.is_none());
        assert_eq!(other.nodes, BTreeSet::from(["172.30.0.1/32".parse().unwrap()]));
        let own = databases("n1", &labelled, Some(&all));
        assert_eq!(own.members.map(|members| members.len()), Some(2));
        assert!(!databases("n1", &labelled, Some(&seen(false, &[]))).known, "not all nodes are listed yet");
        // A node that has lost the label.
        assert_eq!(databases("n1", &seen(true, &[("n3", "172.30.0.3")]), Some(&all)).members, None);
    }
}
