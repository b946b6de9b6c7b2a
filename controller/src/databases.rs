//! The servers of the OVN databases: those of the flags, or else the nodes with the labels of `--database-nodes`.

use std::net::IpAddr;

use api::NodeView;
use keys::Readiness;
use kit::kubernetes::{Seen, keep};
use kube::Api;
use kube::runtime::watcher;
use ovsdb::{Changes, Client, Config, ConfigError, Endpoint};
use tokio::sync::watch;

/// The internal addresses of the nodes with databases, by name.
pub type Nodes = watch::Receiver<Seen<Vec<IpAddr>>>;

/// Checks that the servers of the flags can be tried. Without any, the nodes are followed.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    if config.endpoints.is_empty() { Ok(()) } else { config.check() }
}

/// Watches the nodes with these labels.
pub fn nodes(client: &kube::Client, labels: &str) -> Nodes {
    let read = |node: NodeView| Some((node.name().to_owned(), node.internal_ips().collect()));
    keep("nodes", Api::all(client.clone()), watcher::Config::default().labels(labels), read)
}

/// Starts the client of a database. Without servers in its configuration, it uses this port of the nodes at any time, with the
/// key as soon as it is there.
pub fn spawn(config: Config, port: u16, nodes: &Nodes, key: Option<&watch::Receiver<Readiness>>) -> (Client, Changes) {
    let (follows, tls) = (config.endpoints.is_empty(), config.tls.is_some());
    let (client, changes) = Client::spawn(config);
    if follows {
        tokio::spawn(follow(client.clone(), port, nodes.clone(), tls, key.cloned()));
    }
    (client, changes)
}

async fn follow(client: Client, port: u16, mut nodes: Nodes, tls: bool, key: Option<watch::Receiver<Readiness>>) {
    if let Some(mut key) = key
        && key.wait_for(Result::is_ok).await.is_err()
    {
        return;
    }
    loop {
        let endpoints = endpoints(&nodes.borrow_and_update(), port, tls);
        // Labels that are gone for a moment say nothing about the databases.
        if !endpoints.is_empty() {
            client.use_endpoints(endpoints);
        }
        if nodes.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the servers: the first address of each node.
fn endpoints(nodes: &Seen<Vec<IpAddr>>, port: u16, tls: bool) -> Vec<Endpoint> {
    let hosts = nodes.objects.values().filter_map(|addresses| addresses.first()).map(ToString::to_string);
    hosts.map(|host| if tls { Endpoint::Ssl { host, port } } else { Endpoint::Tcp { host, port } }).collect()
}

#[cfg(test)]
mod tests {
    use ovn::ports::NORTHBOUND;

    use super::*;

    #[test]
    fn each_node_with_a_database_is_a_server() {
        let node = |name: &str, addresses: &[&str]| {
            (name.to_owned(), addresses.iter().map(|address| address.parse().unwrap()).collect())
        };
        let objects = [node("n1", &["10.0.0.1", "fd00::1"]), node("n2", &["fd00::2"]), node("n3", &[])].into();
        let seen = Seen { synced: true, objects };
        let found = |tls| endpoints(&seen, NORTHBOUND, tls).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found(false), ["tcp:10.0.0.1:6641", "tcp:[fd00::2]:6641"]);
        assert_eq!(found(true), ["ssl:10.0.0.1:6641", "ssl:[fd00::2]:6641"]);
    }

    #[tokio::test]
    async fn without_a_node_no_server_is_known() {
        let nowhere = watch::channel(Seen::default());
        let (client, _changes) =
            spawn(Config::new(Vec::new(), "OVN_Northbound", Vec::new()), NORTHBOUND, &nowhere.1, None);
        client.failure().wait_for(|why| why.as_deref() == Some("no server is known")).await.unwrap();
    }
}
