//! B1: the largest packet passes every boundary, a larger one is refused with the size that fits, and fragments arrive.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::place::UDP;
use e2e::cluster::{Place, Target};
use e2e::layout::{Node, OUTSIDE, OUTSIDE_6};
use e2e::{Cluster, pace, process};

use crate::stage::{MTU, WIDE_MTU, stage};

/// Sends echo requests of these sizes to these addresses, which routers must not cut. Returns for each whether it was
/// answered, and the output.
async fn uncut(from: &Place, requests: &[(String, u32)]) -> Result<Vec<(bool, String)>> {
    let patience = pace::seconds(1);
    let line = |(to, size): &(String, u32)| {
        let payload = size - if to.contains(':') { 48 } else { 28 };
        format!("ping -M do -c 1 -W {patience} -s {payload} {to} 2>&1; echo status $?; echo end")
    };
    let script: Vec<_> = requests.iter().map(line).collect();
    let printed = from.run("sh", &["-c", &script.join("\n")]).await?;
    let answers: Vec<_> = printed.split_terminator("end\n").collect();
    ensure!(answers.len() == requests.len(), "{printed}");
    Ok(answers.into_iter().map(|text| (text.trim_end().ends_with("status 0"), text.to_owned())).collect())
}

/// Like [`uncut`], for one request.
async fn uncut_one(from: &Place, to: &str, size: u32) -> Result<(bool, String)> {
    Ok(uncut(from, &[(to.to_owned(), size)]).await?.remove(0))
}

/// Checks that packets of `mtu` bytes arrive, and that the sender knows that larger ones do not fit. Returns what is wrong.
async fn boundary(from: &Place, to: &[String], mtu: u32) -> Result<Vec<String>> {
    let requests: Vec<_> = to.iter().flat_map(|to| [mtu, mtu + 1].map(|size| (to.clone(), size))).collect();
    let answers = uncut(from, &requests).await?;
    let wrong = |((to, size), (arrives, printed)): (&(String, u32), (bool, String))| {
        let right = if *size == mtu { arrives } else { !arrives && printed.contains("essage too long") };
        (!right).then(|| format!("{size} bytes from {from} to {to}: {printed}"))
    };
    Ok(requests.iter().zip(answers).filter_map(wrong).collect())
}

#[tokio::test]
async fn b1_the_largest_packets_pass_every_boundary() -> Result<()> {
    let stage = stage().await?;
    let mut amiss = Vec::new();
    for (pod, others, mtu) in
        [(&stage.near, vec![&stage.next, &stage.far], MTU), (&stage.wide, vec![&stage.wide_far], WIDE_MTU)]
    {
        let mut from_pod = vec![OUTSIDE.to_owned(), OUTSIDE_6.to_owned()];
        for node in [Node::ONE, Node::TWO] {
            from_pod.extend([node.ip4(), node.ip6()]);
            let to_pod = pod.both()?.map(|ip| ip.to_string());
            amiss.extend(boundary(&Place::Node(node), &to_pod, mtu).await?);
        }
        for other in others {
            from_pod.extend(other.both()?.map(|ip| ip.to_string()));
        }
        amiss.extend(boundary(&pod.place(), &from_pod, mtu).await?);
    }
    ensure!(amiss.is_empty(), "{}", amiss.join("\n"));
    Ok(())
}

/// Returns true if ping says that this is the largest size. It says so in three ways.
fn says(printed: &str, mtu: u32) -> bool {
    ["mtu = ", "mtu=", "mtu: "].iter().any(|before| printed.contains(&format!("{before}{mtu}")))
}

/// A route of a network namespace. Dropping it removes the route.
struct Route(Vec<String>);

impl Route {
    async fn add(netns: &str, route: &str) -> Result<Self> {
        let family = if route.contains(':') { "-6" } else { "-4" };
        let words = |verb: &str| format!("{family} -n {netns} route {verb} {route}");
        process::sh(&format!("ip {}", words("add"))).await?;
        Ok(Self(words("delete").split(' ').map(str::to_owned).collect()))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(&self.0).status(); // the next test that adds it fails then
    }
}

#[tokio::test]
async fn b1_a_smaller_path_is_found_in_both_directions() -> Result<()> {
    const NARROW: u32 = 1300;
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let (pod, node) = (&stage.near, stage.near.node);
    for (v6, outside, gateway) in [(false, OUTSIDE, node.ip4()), (true, OUTSIDE_6, node.ip6())] {
        // From a pod: the node's own way out is narrower than the pod's interface.
        let narrow = Route::add(&node.netns(), &format!("{outside} dev eth0 mtu {NARROW}")).await?;
        let learns = async || {
            let (_, printed) = uncut_one(&pod.place(), outside, MTU).await?;
            ensure!(says(&printed, NARROW), "{printed}");
            Ok(())
        };
        process::until(Duration::from_secs(5), learns).await.context("the pod is not told")?;
        let (arrives, printed) = uncut_one(&pod.place(), outside, NARROW).await?;
        ensure!(arrives, "{printed}");
        drop(narrow);
        pod.place().run("ip", &["route", "flush", "cache"]).await?;
        pod.place().run("ip", &["-6", "route", "flush", "cache"]).await?;

        // To a pod, by a router that knows the pods' networks: the pod's interface is narrower. Linux as a router of IPv6 says
        // the MTU of the link, not that of the route, and so ovn0's, which is that of the widest subnet.
        if v6 {
            continue;
        }
        let way = Route::add("lab-out", &format!("{} via {gateway}", pod.ip(v6)?)).await?;
        let learns = async || {
            let (_, printed) = uncut_one(&cluster.outside(), &pod.ip(v6)?.to_string(), 1500).await?;
            ensure!(says(&printed, MTU), "{printed}");
            Ok(())
        };
        process::until(Duration::from_secs(5), learns).await.context("the host outside is not told")?;
        let (arrives, printed) = uncut_one(&cluster.outside(), &pod.ip(v6)?.to_string(), MTU).await?;
        ensure!(arrives, "{printed}");
        drop(way);
    }
    Ok(())
}

/// Sends datagrams that are cut into fragments, and expects them back, and echo requests of that size.
async fn fragments(from: &Place, to: IpAddr, who: &str) -> Result<()> {
    for answer in from.ask(&[Target::Udp((to, UDP).into(), 4000), Target::Udp((to, UDP).into(), 9000)]).await? {
        assert_eq!(answer?.who, who, "a datagram from {from} to {to}");
    }
    let (to, patience) = (to.to_string(), pace::seconds(2));
    let echo = from.run("ping", &["-c", "1", "-W", &patience, "-s", "4000", &to]).await;
    echo.map(drop).with_context(|| format!("an echo from {from} to {to}"))
}

#[tokio::test]
async fn b1_fragments_arrive() -> Result<()> {
    let stage = stage().await?;
    for v6 in [false, true] {
        for (from, to) in [(&stage.near, &stage.next), (&stage.near, &stage.far), (&stage.wide, &stage.wide_far)] {
            fragments(&from.place(), to.ip(v6)?, &to.name).await?;
        }
        fragments(&Place::Node(Node::ONE), stage.far.ip(v6)?, "far").await?;
    }
    // Not over IPv6: the host outside cuts its answer for its own link, and no router cuts it again.
    fragments(&stage.near.place(), OUTSIDE.parse()?, "outside").await
}
