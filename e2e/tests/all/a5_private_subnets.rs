//! A5: subnets reach each other. A private subnet reaches only itself, its nodes and the networks that it allows. A subnet
//! with rules drops what they name.

use anyhow::{Result, ensure};
use api::Subnet;
use e2e::Cluster;
use e2e::central::nbctl;
use e2e::cluster::{Place, Pod, nb, subnet_ready};
use e2e::layout::{OUTSIDE, OUTSIDE_6};
use futures::future::try_join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::try_join;

const PRIVATE: &str = "a5-private";

#[tokio::test]
async fn a5_a_private_subnet_talks_with_whom_it_allows() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("a5").await?;
    let subnets: Api<Subnet> = Api::all(cluster.client());
    for (name, third, private) in [(PRIVATE, 24, true), ("a5-friend", 25, false), ("a5-other", 26, false)] {
        let cidr = format!("10.{third}.0.0/24,fd00:{third}::/64");
        let spec = json!({"cidrBlock": cidr, "namespaces": [name], "private": private, "natOutgoing": true});
        scene
            .create(json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}))
            .await?;
        cluster.until(subnets.clone(), name, subnet_ready).await?;
        scene.namespace(name, &[]).await?;
    }
    let (one, two, friend, other) = try_join!(
        scene.pod(PRIVATE, "one").on("n1").ready(),
        scene.pod(PRIVATE, "two").on("n2").ready(),
        scene.pod("a5-friend", "friend").on("n2").ready(),
        scene.pod("a5-other", "other").on("n1").ready(),
    )?;

    // Private: only pods of the subnet and all nodes reach a pod.
    let reached_by_nodes = async || {
        for node in cluster.nodes() {
            let node = cluster.node(&node.name())?;
            try_join!(reaches(&node, &one), reaches(&node, &two))?;
        }
        Ok::<_, anyhow::Error>(())
    };
    try_join!(talk(&one, &two), apart(&one, &friend), apart(&two, &other), apart(&one, &other), reached_by_nodes())?;
    // A pod does not reach nodes or hosts outside of the cluster, although nodes reach the pod.
    let node = cluster.nodes()[0];
    let (place, node_4, node_6) = (one.place(), node.ip4(), node.ip6());
    let nodes = async { try_join!(place.no_ping(&node_4), place.no_ping(&node_6), place.no_ping("100.64.0.1")) };
    try_join!(nodes, cut_off(&place, OUTSIDE), cut_off(&place, OUTSIDE_6))?;

    // Not private: after one edit, running pods are reachable.
    set(&subnets, json!({"private": false}), "acls=[]").await?;
    try_join!(talk(&one, &two), talk(&one, &friend), talk(&two, &other), talk(&one, &other), reached_by_nodes())?;
    for outside in [OUTSIDE, OUTSIDE_6] {
        one.place().tcp(outside).await?;
    }

    // A rule of the spec. One that OVN cannot read does not affect it.
    let rule = |match_: &str| json!({"direction": "to-lport", "priority": 1000, "match": match_, "action": "drop"});
    let friends = format!("ip4.src == {} || ip6.src == {}", friend.ip4()?, friend.ip6()?);
    set(&subnets, json!({"acls": [rule("ip4.src =="), rule(&friends)]}), "acls!=[]").await?;
    try_join!(talk(&one, &two), apart(&one, &friend), talk(&two, &other), talk(&one, &other), reached_by_nodes())?;
    set(&subnets, json!({"acls": null}), "acls=[]").await?;
    try_join!(talk(&one, &friend))?;

    // Private again, with an allowed network.
    let allow = ["10.25.0.0/24", "fd00:25::/64"];
    set(&subnets, json!({"private": true, "allowSubnets": allow}), "acls!=[]").await?;
    try_join!(talk(&one, &two), talk(&one, &friend), talk(&two, &friend), apart(&one, &other), reached_by_nodes())?;
    Ok(())
}

/// Changes the private subnet and waits until every node has the flows.
async fn set(subnets: &Api<Subnet>, spec: Value, then: &str) -> Result<()> {
    subnets.patch(PRIVATE, &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await?;
    nb::until("Logical_Switch", PRIVATE, &[then]).await?;
    nbctl(&["--timeout=30", "--wait=hv", "sync"]).await.map(drop)
}

async fn talk(one: &Pod, other: &Pod) -> Result<()> {
    let (there, back) = (one.place(), other.place());
    try_join!(reaches(&there, other), reaches(&back, one)).map(drop)
}

async fn reaches(from: &Place, to: &Pod) -> Result<()> {
    for ip in [to.ip4()?, to.ip6()?] {
        from.ping(&ip).await?;
        ensure!(from.tcp(&ip).await?.who == to.name(), "{ip} is {}", to.name());
    }
    Ok(())
}

async fn apart(one: &Pod, other: &Pod) -> Result<()> {
    let ways = [(one, other), (other, one)].map(|(from, to)| async move {
        let (place, ip4, ip6) = (from.place(), to.ip4()?, to.ip6()?);
        try_join!(cut_off(&place, &ip4), cut_off(&place, &ip6)).map(drop)
    });
    try_join_all(ways).await.map(drop)
}

/// Checks that neither echo requests nor TCP connections are answered. TCP must time out, not be refused.
async fn cut_off(from: &Place, to: &str) -> Result<()> {
    let (ping, tcp) = tokio::join!(from.no_ping(to), from.tcp(to));
    ping?;
    match tcp {
        Ok(answer) => anyhow::bail!("{to} must not answer {from}, but: {answer:?}"),
        Err(e) => ensure!(format!("{e:#}").contains("timed out"), "TCP is dropped, not {e:#}"),
    }
    Ok(())
}
