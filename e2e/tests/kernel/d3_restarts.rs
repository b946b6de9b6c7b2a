//! D3: packets that are lost while programs of the network are stopped, killed and started again. The kernel's datapath
//! forwards without its daemons, so established flows need not lose any.
//!
//! Emulation is slow, so a packet is sent every 20 ms on each path. Each test prints a table. `KUBE_OVN_AWAY` is the time in
//! seconds for which the databases are away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::bare::{Daemon, Outcome, Pod, Probe};
use e2e::cluster::Place;
use e2e::layout::{Node, OUTSIDE, sibling};
use e2e::part::Part;
use e2e::process;
use kit::clock::Clock;

use crate::stage::{NAMESPACE, answers, echo, stage};

const INTERVAL: Duration = Duration::from_millis(20);
/// How long packets flow before and after an event.
const AROUND: Duration = Duration::from_secs(3);

/// Sends packets on all paths while `event` runs. Prints the losses and returns the outcomes by path.
async fn during(what: &str, event: impl Future<Output = Result<()>>) -> Result<Vec<(&'static str, Outcome)>> {
    let stage = stage().await?;
    let (near, one) = (stage.near.place(), Place::Node(Node::ONE));
    listen_on_node().await?;
    let paths = [
        ("pod to pod, same node", &near, stage.next.ip(false)?.to_string()),
        ("pod to pod, other node", &near, stage.far.ip(false)?.to_string()),
        ("pod to pod, other node, IPv6", &near, stage.far.ip(true)?.to_string()),
        ("node to pod", &one, stage.near.ip(false)?.to_string()),
        ("pod to node", &near, Node::ONE.ip4()),
        ("pod to outside", &near, OUTSIDE.to_owned()),
    ];
    let mut probes = Vec::new();
    for (path, from, to) in &paths {
        probes.push((*path, Probe::start(path, from, to, INTERVAL).await?));
    }
    tokio::time::sleep(AROUND).await;
    let event = event.await;
    tokio::time::sleep(AROUND).await;
    let mut outcomes = Vec::new();
    println!("{what}: a packet each {} ms", INTERVAL.as_millis());
    println!(
        "  {:30} {:>6} {:>10} {:>9} {:>12} {:>12}",
        "path", "sent", "lost there", "lost back", "longest ms", "lost between"
    );
    for (path, probe) in probes {
        let o = probe.end().await?;
        println!(
            "  {path:30} {:6} {:10} {:9} {:12} {:>12}",
            o.sent,
            o.sent - o.arrived,
            o.arrived - o.answered,
            o.pause_here,
            format!("{}-{}", o.lost.0, o.lost.1)
        );
        outcomes.push((path, o));
    }
    event.with_context(|| what.to_owned())?;
    Ok(outcomes)
}

/// Starts `lab-peer` on the first node, unless it runs.
async fn listen_on_node() -> Result<()> {
    let (name, place) = ("peer-n1", Place::Node(Node::ONE));
    if !process::runs(name) {
        let peer = sibling("static/lab-peer")?.display().to_string();
        process::start(name, place.command(&peer, &["serve", "n1"])?)?;
    }
    answers(&place).await
}

/// Checks that no path has lost more packets than `most`.
fn at_most(most: u64, outcomes: &[(&str, Outcome)]) -> Result<()> {
    let amiss: Vec<_> = outcomes.iter().filter(|(_, o)| o.sent - o.answered > most).collect();
    ensure!(amiss.is_empty(), "more than {most} packets are lost: {amiss:#?}");
    Ok(())
}

#[tokio::test]
async fn d3_nothing_is_lost_while_nothing_happens() -> Result<()> {
    at_most(0, &during("nothing happens", async { Ok(()) }).await?)
}

#[tokio::test]
async fn d3_open_vswitch_is_stopped_and_started() -> Result<()> {
    let event = async {
        Daemon::Ovs(Node::ONE).stop().await?;
        Daemon::Ovs(Node::ONE).start()?;
        Daemon::Ovs(Node::ONE).ready().await
    };
    at_most(0, &during("ovs-ovn is stopped and started", event).await?)
}

#[tokio::test]
async fn d3_open_vswitch_is_killed() -> Result<()> {
    let event = async {
        Daemon::Ovs(Node::ONE).kill().await?;
        Daemon::Ovs(Node::ONE).start()?;
        Daemon::Ovs(Node::ONE).ready().await
    };
    at_most(0, &during("ovs-ovn is killed and started", event).await?)
}

#[tokio::test]
async fn d3_vswitchd_is_killed() -> Result<()> {
    let event = async {
        Part::Vswitchd(Node::ONE).revive().await?;
        Daemon::Ovs(Node::ONE).ready().await
    };
    at_most(0, &during("ovs-vswitchd is killed", event).await?)
}

#[tokio::test]
async fn d3_ovn_controller_is_killed() -> Result<()> {
    let event = async {
        Part::OvnController(Node::ONE).revive().await?;
        Daemon::Ovs(Node::ONE).ready().await
    };
    at_most(0, &during("ovn-controller is killed", event).await?)
}

#[tokio::test]
async fn d3_the_agent_is_killed() -> Result<()> {
    let event = async {
        Daemon::Agent(Node::ONE).kill().await?;
        Daemon::Agent(Node::ONE).start()?;
        Daemon::Agent(Node::ONE).ready().await
    };
    at_most(0, &during("the agent is killed and started", event).await?)
}

#[tokio::test]
async fn d3_the_databases_are_away() -> Result<()> {
    let seconds = std::env::var("KUBE_OVN_AWAY").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let event = async {
        Daemon::Central.stop().await?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Daemon::Central.start()?;
        Daemon::Central.ready().await?;
        Daemon::Ovs(Node::ONE).ready().await
    };
    at_most(0, &during(&format!("ovn-central is away for {seconds} s"), event).await?)
}

/// The clock of both nodes, of the controller and of the databases is set forth and back. That of the API server is right.
#[tokio::test]
async fn d3_the_clock_is_set() -> Result<()> {
    let is_own = std::fs::read_to_string("/proc/cmdline")?.contains("vm.modules=");
    ensure!(is_own, "the clock of this machine is that of others");
    let (client, near) = (Cluster::running().await?.client(), stage().await?.near.place());
    let mut clock = Clock::watch();
    let event = async {
        for (name, seconds) in [("forth", 7200), ("back", -14400), ("right", 7200)] {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            let then = format!("@{}", now.checked_add_signed(seconds).context("a time")?);
            process::sh(&format!("date --utc --set {then}")).await?;
            tokio::time::timeout(Duration::from_secs(2), clock.is_set())
                .await
                .context("nobody is told of the clock")?;
            let pod = Pod::new(NAMESPACE, &format!("clock-{name}"), Node::TWO).plug(&client).await?;
            answers(&pod.place()).await?;
            echo(&near, pod.ip(false)?).await?;
            Daemon::Controller.ready().await?;
        }
        Ok(())
    };
    at_most(0, &during("the clock is set two hours forth, and four back", event).await?)
}
