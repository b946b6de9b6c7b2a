//! D1 with three members: each of them can be killed, cut off, and lose its files, also all of them, and they are whole again
//! without a hand.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::central::members::{self, BOTH, Database};
use e2e::central::writes::longest_gap;
use e2e::cluster::traffic::Pings;
use e2e::cluster::{Pod, Scene, datapath};
use e2e::kube::kubectl;
use e2e::layout::Node;
use e2e::{Cluster, central, install, ledger, net, operator, process};
use nix::sys::signal::Signal;

/// The time within which the members are whole again.
pub(crate) const WHOLE: Duration = Duration::from_secs(15);
/// The time within which a pod gets its network while a member is lost, hangs or is cut off. Then its clients learn that by its
/// silence, and the controller that leads can be cut off with it.
const POD: Duration = Duration::from_secs(15);

/// How many packets, one each 20 ms, running pods may lose for each pod that comes and goes: whenever an interface of a node
/// changes, the userspace datapath reads all routes anew, and does not listen for packets of tunnels for a moment.
const LOST: usize = 2;

/// Two running pods that ping each other. They should notice nothing of what happens to the members.
pub(crate) struct Bystanders {
    scene: Scene,
    pings: Pings,
    near: Pod,
    far: Pod,
    newcomers: Cell<usize>,
}

impl Bystanders {
    /// Starts them in a namespace with the name of the scene.
    pub(crate) async fn start(cluster: &Cluster, namespace: &'static str) -> Result<Self> {
        let scene = cluster.scene(namespace).await?;
        scene.namespace(namespace, &[]).await?;
        let near = Box::pin(scene.pod(namespace, "near").on("n1").ready()).await?;
        let far = Box::pin(scene.pod(namespace, "far").on("n2").ready()).await?;
        let pings = Pings::start(&near.netns().await?, &far.ip4()?)?;
        Ok(Self { scene, pings, near, far, newcomers: Cell::new(0) })
    }

    /// Starts a pod, whose address no other pod has, and removes it.
    pub(crate) async fn newcomer(&self, what: &str) -> Result<()> {
        self.newcomer_within(what, POD).await
    }

    pub(crate) async fn newcomer_within(&self, what: &str, bar: Duration) -> Result<()> {
        self.newcomers.set(self.newcomers.get() + 1);
        if self.near.place().ping(&self.far.ip4()?).await.is_err() {
            println!("  running pods do not reach each other: {what}");
            println!("{}", datapath::says(self.scene.cluster(), &self.near, &self.far).await);
        }
        let began = Instant::now();
        let pod = self.scene.pod(self.near.namespace(), "fresh").on("n1").ready().await;
        let pod = pod.with_context(|| format!("a pod, {what}"))?;
        let ready = began.elapsed();
        // The other node may have connected later.
        let (place, far) = (pod.place(), self.far.ip4()?);
        if let Err(error) = process::until(bar, async || place.ping(&far).await).await {
            let (near, fresh) = (self.near.place(), pod.ip4()?);
            println!("  near reaches far: {:?}", near.ping(&far).await.is_ok());
            println!("  near reaches the new pod: {:?}", near.ping(&fresh).await.is_ok());
            println!("  far reaches the new pod: {:?}", self.far.place().ping(&fresh).await.is_ok());
            println!("{}", datapath::says(self.scene.cluster(), &pod, &self.far).await);
            return Err(error).with_context(|| what.to_owned());
        }
        println!("  a new pod is Ready after {ready:.1?}, and reaches another node after {:.1?}", began.elapsed());
        ensure!(ready < bar, "{what}: a pod took {ready:?}");
        ensure!(pod.ip4()? != self.near.ip4()? && pod.ip4()? != self.far.ip4()?, "an address is given out twice");
        pod.delete().await
    }

    /// Ends. Almost no packet may be lost, and all records agree.
    pub(crate) async fn end(self) -> Result<()> {
        let bar = LOST * self.newcomers.get();
        let (sent, lost) = self.pings.stop().await?;
        println!("of {sent} pings between running pods, {} had no answer", lost.len());
        ensure!(lost.len() <= bar, "{} of {sent} pings had no answer: {lost:?}", lost.len());
        ledger::agree(self.scene.cluster()).await.map(drop)
    }
}

fn three(cluster: &Cluster) -> Result<[Node; 3]> {
    let nodes: Result<[Node; 3], _> = cluster.nodes().try_into();
    nodes.ok().context("this needs a lab with three nodes")
}

/// Returns the cluster, and its three nodes, which all have members.
pub(crate) async fn with_three_members() -> Result<(Cluster, [Node; 3])> {
    let cluster = Cluster::running().await?;
    let nodes = three(&cluster)?;
    members::label(&nodes).await?;
    members::whole(&cluster, &nodes, WHOLE).await?;
    Ok((cluster, nodes))
}

#[tokio::test]
async fn d1_members_come_and_go_with_their_labels() -> Result<()> {
    let cluster = Cluster::running().await?;
    let nodes = three(&cluster)?;
    let bystanders = Bystanders::start(&cluster, "d1-labels").await?;
    let [one, two, three] = nodes;
    for labelled in [&[one][..], &[one, two, three], &[two, three], &[two], &[three], &[one, three], &[one, two, three]]
    {
        members::label(labelled).await?;
        let names: Vec<_> = labelled.iter().map(|node| node.name()).collect();
        println!("{names:?}: whole after {:.1?}", members::whole(&cluster, labelled, WHOLE).await?);
        bystanders.newcomer("after a change of labels").await?;
    }
    // From one node to another in one step, nobody is left who has the data.
    bystanders.end().await
}

/// The commands of the page, with three members, of which an update replaces one after the other.
#[tokio::test]
async fn d1_members_change_to_plain_connections_and_back() -> Result<()> {
    const PAGE: &str = include_str!("../../../docs/operations.md");
    let off = operator::commands(PAGE, "tls.enabled=false")?;
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-plain").await?;
    let change = async |commands: &str| {
        let began = Instant::now();
        process::run(operator::shell(&operator::project(), commands)).await?;
        members::whole(&cluster, &nodes, WHOLE).await?;
        install::settled().await?;
        println!("{} after {:.1?}", commands.lines().next().unwrap_or_default(), began.elapsed());
        bystanders.newcomer("after the change").await
    };
    let changed = change(off).await;
    // Other tests need it, also after a failure.
    change(&off.replace("tls.enabled=false", "tls.enabled=true")).await?;
    changed?;
    bystanders.end().await
}

#[tokio::test]
async fn d1_members_are_killed_stopped_and_paused() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-killed").await?;
    for (what, is_killed, bar) in [("killed", true, 4000), ("handed over", false, 1000)] {
        let leader = Database::Nb.leader().await?;
        let gap = longest_gap(&nodes, async {
            if is_killed {
                Database::Nb.signal(leader, Signal::SIGKILL)?;
            } else {
                let on = format!("--field-selector=spec.nodeName={}", leader.name());
                kubectl(&["delete", "pod", "--namespace=kube-system", "--selector=app=ovn-central", &on]).await?;
            }
            bystanders.newcomer(&format!("the northbound leader is {what}")).await?;
            println!("{what}: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
            Ok(())
        });
        let gap = Box::pin(gap).await?;
        println!("{what}: the longest time between two writes is {gap:.2?}");
        ensure!(gap < Duration::from_millis(bar), "{what}: nothing was written for {gap:?}");
    }
    // One that hangs keeps its connections. Its clients notice its silence.
    for database in BOTH {
        let pid = database.pid(database.leader().await?)?;
        members::send(pid, Signal::SIGSTOP)?;
        let newcomer = bystanders.newcomer("the leader hangs").await;
        members::send(pid, Signal::SIGCONT)?;
        newcomer?;
        println!("{database:?} resumed: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
        bystanders.newcomer("the leader hung").await?;
    }
    for node in nodes {
        members::kill(node)?;
    }
    println!("all killed at once: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
    bystanders.newcomer("all members were killed").await?;
    bystanders.end().await
}

/// A change to the files of a member that does not run.
pub(crate) type Harm = fn(Node) -> Result<()>;

pub(crate) const HARMS: [(&str, Harm); 4] = [
    ("its directory is lost", |node| Ok(fs::remove_dir_all(central::directory(node))?)),
    ("its files are cut short", |node| {
        for file in BOTH.map(|database| database.file(node)) {
            fs::write(&file, &fs::read(&file)?[..200])?;
        }
        Ok(())
    }),
    ("its files are not what was written", |node| {
        for file in BOTH.map(|database| database.file(node)) {
            let mut bytes = fs::read(&file)?;
            bytes.iter_mut().skip(300).step_by(100).for_each(|byte| *byte ^= 0x20);
            fs::write(&file, bytes)?;
        }
        Ok(())
    }),
    ("its files are each other's", |node| {
        let [nb, sb] = BOTH.map(|database| database.file(node));
        let other = nb.with_extension("other");
        fs::rename(&nb, &other)?;
        fs::rename(&sb, &nb)?;
        Ok(fs::rename(&other, &sb)?)
    }),
];

#[tokio::test]
async fn d1_members_lose_their_files() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-files").await?;
    for (at, (what, harm)) in HARMS.into_iter().enumerate() {
        let node = nodes[at % 3];
        members::kill(node)?;
        harm(node)?;
        bystanders.newcomer(what).await?;
        println!("{what}: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
    }
    for lost in [1, 2] {
        for node in &nodes[lost..] {
            members::lose_disk(*node)?;
        }
        println!("{} disks lost: whole after {:.1?}", 3 - lost, members::whole(&cluster, &nodes, WHOLE).await?);
        bystanders.newcomer("disks were lost").await?;
    }
    bystanders.end().await
}

#[tokio::test]
async fn d1_members_lose_all_files() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-all-files").await?;
    for node in nodes {
        members::lose_disk(node)?;
    }
    println!("all disks lost: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
    bystanders.newcomer("all disks were lost").await?;
    bystanders.end().await
}

/// Two of three members are cut off: nothing can be written until they are back.
#[tokio::test]
async fn d1_members_that_are_most_are_cut_off() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let scene = cluster.scene("d1-most-waits").await?;
    scene.namespace("d1-most-waits", &[]).await?;
    let cut = async {
        for node in &nodes[1..] {
            net::cables(*node, "down").await?;
        }
        let waiting = Box::pin(scene.pod("d1-most-waits", "waiting").on("n1").create()).await?;
        // The servers of each side notice, and those of one node believe for a while that they lead.
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(waiting)
    };
    let waiting: Result<Pod> = cut.await;
    for node in &nodes[1..] {
        net::cables(*node, "up").await?;
    }
    println!("most were cut off: whole after {:.1?}", members::whole(&cluster, &nodes, 2 * WHOLE).await?);
    let (waiting, began) = (waiting?, Instant::now());
    Box::pin(waiting.ready()).await?;
    println!("  a pod that waited is Ready {:.1?} later", began.elapsed());
    ensure!(began.elapsed() < POD, "a pod that waited is Ready {:?} later", began.elapsed());
    let bystanders = Bystanders::start(&cluster, "d1-most-cut").await?;
    bystanders.newcomer("most members were cut off").await?;
    bystanders.end().await
}

/// A node is lost for good, and a new one takes its place.
#[tokio::test]
async fn d1_members_on_a_lost_node_are_replaced() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-replaced").await?;
    net::cables(nodes[2], "down").await?;
    let lost = async {
        members::label(&nodes[..2]).await?;
        let began = Instant::now();
        // Its pod stays in the API server, because its kubelet is lost as well.
        process::until(WHOLE, async || members_are(&nodes[..2]).await).await?;
        println!("lost for good: out of the clusters after {:.1?}", began.elapsed());
        bystanders.newcomer("a node is lost for good").await?;
        members::lose_disk(nodes[2])
    };
    let outcome = lost.await;
    net::cables(nodes[2], "up").await?;
    members::label(&nodes).await?;
    outcome?;
    println!("replaced: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
    bystanders.newcomer("a node was replaced").await?;
    bystanders.end().await
}

/// Checks that the clusters have exactly these members.
async fn members_are(nodes: &[Node]) -> Result<()> {
    for database in BOTH {
        let servers = database.standing(nodes[0]).await?.servers;
        let all = nodes
            .iter()
            .all(|node| servers.iter().any(|server| server.host().is_some_and(|host| host.to_string() == node.ip4())));
        ensure!(all && servers.len() == nodes.len(), "{database:?} has {servers:?}");
    }
    Ok(())
}

/// The disk of the leader is full, also while it starts.
#[tokio::test]
async fn d1_members_go_on_beside_a_full_disk() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-full").await?;
    let node = Database::Nb.leader().await?;
    members::on_a_small_disk(node).await?;
    let full = async {
        println!("on another disk: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
        members::fill(node).await?;
        bystanders.newcomer("a disk is full").await?;
        members::kill(node)?;
        bystanders.newcomer("a member starts on a full disk").await?;
        members::free(node).await?;
        println!("a disk was full: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
        Ok(())
    };
    let outcome: Result<()> = full.await;
    members::on_the_nodes_disk(node).await?;
    outcome?;
    println!("that disk is lost: whole after {:.1?}", members::whole(&cluster, &nodes, WHOLE).await?);
    bystanders.newcomer("a disk was full").await?;
    bystanders.end().await
}

#[tokio::test]
async fn d1_members_are_cut_off() -> Result<()> {
    let (cluster, nodes) = with_three_members().await?;
    let bystanders = Bystanders::start(&cluster, "d1-cut").await?;
    net::cables(nodes[2], "down").await?;
    let newcomer = bystanders.newcomer("one member is cut off").await;
    net::cables(nodes[2], "up").await?;
    newcomer?;
    println!("one cut off: whole after {:.1?}", members::whole(&cluster, &nodes, 2 * WHOLE).await?);
    bystanders.newcomer("one member was cut off").await?;
    bystanders.end().await
}
