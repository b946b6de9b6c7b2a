//! The nodes with OVN databases, whose ports pods must not reach.
//!
//! They are those with the labels of `--database-nodes`. A node that is one of them watches all nodes and external hosts,
//! because it lets only those in. Other nodes do not: the nodes of a large cluster would keep the API server busy with each
//! other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::{ExternalHost, NodeView};
use ipnet::IpNet;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::seen::{self, Seen, publish};

/// How long the rules wait for the list of external hosts, so that a new agent cuts none off.
const PATIENCE: Duration = Duration::from_secs(10);

/// The nodes with databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Databases {
    /// Whether the nodes have been listed.
    pub known: bool,
    /// The addresses of the nodes with databases.
    pub nodes: BTreeSet<IpNet>,
    /// The addresses of all nodes and external hosts, if this node has databases and they have been listed.
    pub members: Option<BTreeSet<IpNet>>,
}

/// The addresses of nodes or of external hosts, by their names.
type Addresses = Seen<Vec<IpAddr>>;

/// All that may use the databases.
struct Members {
    nodes: watch::Receiver<Addresses>,
    external_hosts: watch::Receiver<Addresses>,
}

impl Members {
    /// Waits until a node or an external host comes, goes or has other addresses.
    async fn changed(&mut self) {
        // The senders live as long as the process.
        tokio::select! {
            Ok(()) = self.nodes.changed() => {}
            Ok(()) = self.external_hosts.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// Starts the watches for the node with this name. `labels` selects the nodes with databases; without any, there are none.
pub fn watch(client: &Client, node: &str, labels: &str) -> watch::Receiver<Databases> {
    if labels.is_empty() {
        return watch::channel(Databases { known: true, ..Databases::default() }).1;
    }
    let labels = labels.to_owned();
    let (sender, receiver) = watch::channel(Databases::default());
    let (client, node) = (client.clone(), node.to_owned());
    let nodes = Api::all(client.clone());
    let addresses = move |config| {
        let read = |node: NodeView| Some((node.name().to_owned(), node.internal_ips().collect()));
        seen::keep("nodes", nodes.clone(), config, read)
    };
    tokio::spawn(async move {
        let mut labelled = addresses(watcher::Config::default().labels(&labels));
        let mut all: Option<Members> = None;
        // An installation that was updated in part may not have the kind.
        let mut patience = Instant::now() + PATIENCE;
        loop {
            let here = labelled.borrow_and_update().clone();
            if here.objects.contains_key(&node) && all.is_none() {
                let external_hosts = external_hosts(&client);
                patience = Instant::now() + PATIENCE;
                all = Some(Members { nodes: addresses(watcher::Config::default()), external_hosts });
            }
            let known = |seen: &mut watch::Receiver<Addresses>| seen.borrow_and_update().clone();
            let mut everyone = all.as_mut().map(|all| (known(&mut all.nodes), known(&mut all.external_hosts)));
            if let Some((_, hosts)) = everyone.as_mut().filter(|_| Instant::now() >= patience) {
                hosts.synced = true;
            }
            publish(&sender, databases(&node, &here, everyone.as_ref()));
            let more = async {
                match &mut all {
                    Some(all) => all.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = labelled.changed() => {}
                () = more => {}
                () = sleep_until(patience), if Instant::now() < patience => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}

/// Watches the addresses of all external hosts. One whose addresses cannot be read has none.
fn external_hosts(client: &Client) -> watch::Receiver<Addresses> {
    let read = |host: DeserializeGuard<ExternalHost>| {
        let addresses = host.0.as_ref().ok().and_then(|host| host.addresses().ok()).unwrap_or_default();
        Some((host.name_any(), addresses.into_iter().collect()))
    };
    seen::keep("externalhosts", Api::all(client.clone()), watcher::Config::default(), read)
}

/// `all` are the nodes and the external hosts. A host that has the name of a Node is not let in.
fn databases(node: &str, labelled: &Addresses, all: Option<&(Addresses, Addresses)>) -> Databases {
    let networks = |seen: &Addresses| -> BTreeSet<IpNet> {
        seen.objects.values().flatten().map(|address| IpNet::from(*address)).collect()
    };
    let all = all.filter(|_| labelled.objects.contains_key(node));
    let known = labelled.synced && all.is_none_or(|(nodes, hosts)| nodes.synced && hosts.synced);
    Databases {
        known,
        nodes: networks(labelled),
        // Before, nobody is cut off.
        members: all.filter(|_| known).map(|(nodes, hosts)| {
            let mut hosts = hosts.clone();
            hosts.objects.retain(|name, _| !nodes.objects.contains_key(name));
            networks(nodes).union(&networks(&hosts)).copied().collect()
        }),
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
    fn only_a_node_with_databases_needs_the_addresses_of_all_nodes_and_external_hosts() {
        let labelled = seen(true, &[("n1", "172.30.0.1")]);
        let nodes = seen(true, &[("n1", "172.30.0.1"), ("n2", "172.30.0.2")]);
        let all = (nodes, seen(true, &[("lb1", "172.30.0.9")]));
        let other = databases("n2", &labelled, None);
        assert!(other.known && other.members.is_none());
        assert_eq!(other.nodes, BTreeSet::from(["172.30.0.1/32".parse().unwrap()]));
        let own = databases("n1", &labelled, Some(&all));
        assert_eq!(own.members.map(|members| members.len()), Some(3));
        let unlisted = || seen(false, &[]);
        let early = databases("n1", &labelled, Some(&(unlisted(), unlisted())));
        assert!(!early.known && early.members.is_none(), "not all nodes are listed yet, so that none is cut off");
        assert!(!databases("n1", &labelled, Some(&(all.0.clone(), unlisted()))).known, "it would cut off all hosts");
        let namesake = (all.0.clone(), seen(true, &[("n2", "172.30.0.9")]));
        let own = databases("n1", &labelled, Some(&namesake));
        assert_eq!(own.members.map(|members| members.len()), Some(2), "a Node has the name");
        // A node that has lost the label.
        assert_eq!(databases("n1", &seen(true, &[("n3", "172.30.0.3")]), Some(&all)).members, None);
    }
}
