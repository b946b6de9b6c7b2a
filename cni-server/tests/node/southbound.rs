//! Where ovn-controller finds the southbound database.

use std::collections::BTreeSet;

use cni_server::databases::Databases;
use cni_server::southbound::{self, Servers};
use ipnet::IpNet;
use tokio::sync::watch;

use crate::sandbox::{Sandbox, eventually, in_netns};

fn databases(nodes: &[&str]) -> Databases {
    let nodes: BTreeSet<IpNet> = nodes.iter().map(|address| address.parse().unwrap()).collect();
    Databases { known: true, nodes, members: None }
}

#[test]
fn ovn_controller_is_told_of_the_nodes_with_databases() {
    in_netns(|| async {
        let sandbox = Sandbox::new();
        let set = |setting: &str| sandbox.vsctl(&["set", "open_vswitch", ".", setting]);
        let is =
            |remote: &str| sandbox.vsctl(&["get", "open_vswitch", ".", "external_ids:ovn-remote"]).trim() == remote;
        set("external_ids:ovn-remote=\"tcp:172.30.0.9:6642\"");
        // The nodes are not listed yet, and then none has the label: what is there stays.
        let (sender, receiver) = watch::channel(Databases::default());
        let kept =
            tokio::spawn(southbound::keep(sandbox.ovs(), Servers::Nodes { databases: receiver, tls: false }, None));
        sender.send_replace(databases(&[]));
        drop(sender);
        kept.await.unwrap();
        assert!(is(r#""tcp:172.30.0.9:6642""#));

        let (sender, receiver) = watch::channel(Databases::default());
        let kept =
            tokio::spawn(southbound::keep(sandbox.ovs(), Servers::Nodes { databases: receiver, tls: false }, None));

        sender.send_replace(databases(&["172.30.0.1/32"]));
        eventually("the server", || is(r#""tcp:172.30.0.1:6642""#)).await;
        sender.send_replace(databases(&["172.30.0.2/32", "fd00:30::1/128", "172.30.0.1/32"]));
        let three = r#""tcp:172.30.0.1:6642,tcp:172.30.0.2:6642,tcp:[fd00:30::1]:6642""#;
        eventually("three servers", || is(three)).await;

        set("external_ids:ovn-remote=\"tcp:172.30.0.9:6642\"");
        eventually("a change by others is undone", || is(three)).await;
        sandbox.vsctl(&["remove", "open_vswitch", ".", "external_ids", "ovn-remote"]);
        eventually("it is there again", || is(three)).await;
        // All labels are gone for a moment.
        let before = sandbox.written();
        sender.send_replace(databases(&[]));
        drop(sender);
        kept.await.unwrap();
        assert!(is(three));
        assert_eq!(sandbox.written(), before);
    });
}
