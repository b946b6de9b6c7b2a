//! The marks of packets that go to a Service do not stay on the tunnel's packets that carry them: on the kernel's
//! datapath, the outer packet inherits the mark, and rules of the node for marked packets would apply to it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::bare::expose;
use e2e::cluster::place::HTTP;
use e2e::cluster::{Place, Target};
use e2e::layout::Node;
use e2e::{Cluster, process};

use crate::stage::{NAMESPACE, echo, stage};

/// Rules that count the tunnel's packets of a node: the marked ones as the datapath sends them, and, after all rules that
/// could change marks, all packets and the marked ones.
struct Counters(Node);

const ALL: &str = "-p udp --dport 6081";
const MARKED: &str = "-p udp --dport 6081 -m mark ! --mark 0";

impl Counters {
    async fn add(node: Node) -> Result<Self> {
        let counters = Self(node);
        counters.rules("-A").await?;
        Ok(counters)
    }

    async fn rules(&self, verb: &str) -> Result<()> {
        self.iptables("raw", &format!("{verb} OUTPUT {MARKED}")).await?;
        self.iptables("mangle", &format!("{verb} POSTROUTING {ALL}")).await?;
        self.iptables("mangle", &format!("{verb} POSTROUTING {MARKED}")).await.map(drop)
    }

    async fn iptables(&self, table: &str, line: &str) -> Result<String> {
        let words: Vec<_> = ["-w", "-t", table].into_iter().chain(line.split(' ')).collect();
        Place::Node(self.0).run("iptables", &words).await
    }

    /// Returns the counters, in the order of the description.
    async fn read(&self) -> Result<[u64; 3]> {
        let before = self.iptables("raw", "-nvxL OUTPUT").await?;
        let after = self.iptables("mangle", "-nvxL POSTROUTING").await?;
        let of = |text: &str, marked: bool| {
            let mut lines = text.lines().filter(|l| l.contains("udp dpt:6081") && l.contains("mark match") == marked);
            let count = lines.next().and_then(|line| line.split_whitespace().next()?.parse().ok());
            count.with_context(|| text.to_owned())
        };
        Ok([of(&before, true)?, of(&after, false)?, of(&after, true)?])
    }
}

#[tokio::test]
async fn marks_do_not_reach_the_tunnels() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    // Both pods are on the other node, so that each request of a client on the first node crosses the tunnel.
    let service = expose(&cluster.client(), NAMESPACE, "marked", "Cluster", &[&stage.far]).await?;
    let counters = Counters::add(Node::ONE).await?;
    let clusters = service.cluster_ips.iter().map(|ip| Target::Tcp((*ip, HTTP).into()));
    let own = [Node::ONE.ip4(), Node::ONE.ip6()]
        .into_iter()
        .map(|ip| Ok(Target::Tcp((ip.parse::<IpAddr>()?, service.http).into())));
    let own: Vec<_> = own.collect::<Result<_>>()?;
    let inside: Vec<_> = clusters.chain(own.clone()).collect();
    // Several connections to each.
    let (inside, own) = (inside.repeat(3), own.repeat(3));
    for (client, targets) in [
        (stage.near.place(), &inside),
        (Place::Node(Node::ONE), &inside),
        (cluster.outside(), &own),
        (Place::Node(Node::TWO), &own),
    ] {
        // kube-proxy needs a moment for a new Service.
        let asks = async || client.ask(targets).await?.into_iter().try_for_each(|answer| answer.map(drop));
        process::until(Duration::from_secs(10), asks).await?;
    }
    let [inherited, all, marked] = counters.read().await?;
    println!("{all} packets of the tunnel: {inherited} inherited a mark, {marked} kept it");
    ensure!(all >= 200, "only {all} packets went through the tunnel");
    ensure!(marked == 0, "{marked} of {all} packets of the tunnel are marked");

    // The counter counts: a mark that the test sets is seen.
    counters.iptables("mangle", &format!("-I OUTPUT {ALL} -j MARK --set-mark 1")).await?;
    let pinged = echo(&stage.near.place(), stage.far.ip(false)?).await;
    counters.iptables("mangle", &format!("-D OUTPUT {ALL} -j MARK --set-mark 1")).await?;
    pinged?;
    ensure!(counters.read().await?[2] > 0, "a mark is not counted");
    counters.rules("-D").await
}
