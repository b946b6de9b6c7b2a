//! B5: `mirror0` of a node shows the packets of its pods, of all of them or of those that say so, each packet once, while
//! they run. The collector of a subnet gets copies of the packets of its pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use e2e::bare::Probe;
use e2e::cluster::{Capture, Pod};
use e2e::layout::Node;
use e2e::{Cluster, process};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The annotation.
const MIRROR: &str = "ovn.kubernetes.io/mirror";
/// The UDP port of probes.
const PORT: u16 = 8082;
/// The device at which packets for the other node's tunnels arrive.
const DEVICE: &str = "br-phy";
/// The time from an edit to its effect.
const LIVE: Duration = Duration::from_secs(2);

async fn node_says(cluster: &Cluster, said: Value) -> Result<()> {
    let nodes: Api<NodeObject> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { MIRROR: said } } }));
    nodes.patch("n1", &PatchParams::default(), &patch).await.map(drop).context("the annotation of n1")
}

/// A conversation: a packet each 50 ms, and its answer.
struct Talk {
    probe: Option<Probe>,
    from: String,
    to: String,
}

impl Talk {
    async fn start(from: &Pod, to: &Pod) -> Result<Self> {
        let what = format!("{} to {}", from.name(), to.name());
        let probe = Probe::start(&what, &from.netns().await?, &to.ip4()?, Duration::from_millis(50)).await?;
        Ok(Self { probe: Some(probe), from: from.ip4()?, to: to.ip4()? })
    }

    /// Returns how many numbered packets of each direction a capture has.
    async fn shown(&self, capture: &Capture) -> Result<(usize, usize)> {
        let (from, there) = (format!("IP {}.", self.from), format!("> {}.{PORT}: UDP, length 8", self.to));
        let (to, back) = (format!("IP {}.{PORT} > {}.", self.to, self.from), "UDP, length 8");
        let packets = capture.packets().await?;
        let count = |a: &str, b: &str| packets.iter().filter(|line| line.contains(a) && line.contains(b)).count();
        Ok((count(&from, &there), count(&to, back)))
    }

    async fn is_shown(&self, shown: bool) -> Result<()> {
        let node = Node::named("n1").context("n1")?;
        let changed = || async {
            let capture = Capture::start(node, "mirror0", &format!("udp port {PORT}")).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (requests, answers) = self.shown(&capture).await?;
            let is = if shown { requests > 0 && answers > 0 } else { requests + answers == 0 };
            ensure!(is, "{} to {}: {requests} requests and {answers} answers are shown", self.from, self.to);
            Ok(())
        };
        process::until(LIVE, changed).await
    }

    /// Ends it. Returns the number of requests that were sent, and of answers that arrived.
    ///
    /// Between nodes they can differ. Each network device that comes or goes on a node, like those of pods, makes the
    /// userspace datapath read the node's routes anew, and for some milliseconds it has none for the tunnels.
    async fn end(&mut self) -> Result<(usize, usize)> {
        let outcome = self.probe.take().context("ended already")?.end().await?;
        Ok((usize::try_from(outcome.sent)?, usize::try_from(outcome.answered)?))
    }
}

#[tokio::test]
async fn b5_mirror_shows_the_pods_that_say_so_and_then_all() -> Result<()> {
    let cluster = Cluster::running().await?;
    node_says(&cluster, Value::Null).await?;
    let scene = cluster.scene("b5").await?;
    scene.namespace("b5", &[]).await?;
    let on = |name: &'static str, node: &'static str| scene.pod("b5", name).on(node);
    let (audited, near, plain, far) = tokio::try_join!(
        on("audited", "n1").ready(),
        on("near", "n1").ready(),
        on("plain", "n1").annotation(MIRROR, "false").ready(),
        on("far", "n2").ready()
    )?;
    let across = Talk::start(&audited, &far).await?;
    let mut same = Talk::start(&audited, &near).await?;
    let other = Talk::start(&plain, &far).await?;
    across.is_shown(false).await?;

    // A conversation that goes on already.
    audited.annotate(json!({ MIRROR: "true" })).await?;
    across.is_shown(true).await?;
    same.is_shown(true).await?;
    other.is_shown(false).await?;
    audited.annotate(json!({ MIRROR: null })).await?;
    across.is_shown(false).await?;

    // The administrator chooses all pods of the node. A pod cannot take itself out.
    node_says(&cluster, json!("true")).await?;
    for talk in [&across, &same, &other] {
        talk.is_shown(true).await?;
    }
    // A value that is not readable changes nothing, and is told.
    audited.annotate(json!({ MIRROR: "yes" })).await?;
    audited.told("UnreadableAnnotation", &[MIRROR]).await?;
    node_says(&cluster, Value::Null).await?;
    other.is_shown(false).await?;
    across.is_shown(true).await?;

    // Nothing was lost for the pods.
    let (sent, answered) = same.end().await?;
    ensure!(sent == answered, "{answered} of {sent} packets on one node were answered");
    drop((across, other));

    // Both ends of a whole conversation, from the first packet of a new pod on, each once.
    let node = Node::named("n1").context("n1")?;
    let capture = Capture::start(node, "mirror0", &format!("udp port {PORT}")).await?;
    let new = on("new", "n1").annotation(MIRROR, "true").ready().await?;
    let talks = [Talk::start(&new, &far).await?, Talk::start(&new, &plain).await?];
    tokio::time::sleep(Duration::from_secs(2)).await;
    for mut talk in talks {
        let (sent, answered) = talk.end().await?;
        let (requests, answers) = talk.shown(&capture).await?;
        let all = (requests, answers) == (sent, answered);
        ensure!(all, "{requests} requests of {sent} and {answers} answers of {answered} are shown");
    }
    let host = cluster.node("n1")?;
    let link = host.run("ip", &["link", "show", "mirror0"]).await?;
    ensure!(link.contains("NOARP"), "the node would answer what the mirror shows: {link}");
    Ok(())
}

/// Returns the subnet with this collector, or without one.
async fn collected(cluster: &Cluster, collector: Value) -> Result<()> {
    let subnets: Api<Subnet> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({ "spec": { "remoteMirror": collector } }));
    subnets.patch(REMOTE, &PatchParams::default(), &patch).await.map(drop).context("the collector")
}

/// The subnet whose packets are copied to a collector.
const REMOTE: &str = "b5-remote";

#[tokio::test]
async fn b5_copies_go_to_the_collector_of_the_subnet() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene("b5-remote").await?;
    scene.subnet(REMOTE, "10.89.0.0/24").await?;
    // The other node stands for a collector: it does not know what arrives.
    let collector = Node::named("n2").context("n2")?;
    let to = collector.tunnel_ip();
    collected(&cluster, json!({ "to": to, "key": 7, "pods": "Annotated" })).await?;
    let on = |name: &'static str| scene.pod(REMOTE, name).on("n1");
    let (audited, near, plain) =
        tokio::try_join!(on("audited").annotation(MIRROR, "true").ready(), on("near").ready(), on("plain").ready())?;
    let capture = Capture::start(collector, DEVICE, "proto gre").await?;
    let mut other = Talk::start(&plain, &near).await?;
    let shown = || async {
        let talk = Talk::start(&audited, &near).await?;
        let (requests, answers) = talk.shown(&capture).await?;
        ensure!(requests > 0 && answers > 0, "{requests} requests and {answers} answers have arrived");
        Ok(())
    };
    process::until(LIVE, shown).await?;

    // Each packet once, and none is lost for the pods.
    let mut talk = Talk::start(&audited, &near).await?;
    let capture = Capture::start(collector, DEVICE, "proto gre").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (requests, answers) = talk.shown(&capture).await?;
    let (sent, answered) = talk.end().await?;
    let (all, back) = talk.shown(&capture).await?;
    ensure!(sent == answered, "{answered} of {sent} packets were answered");
    ensure!(requests > 10 && answers > 10, "{requests} requests and {answers} answers have arrived");
    ensure!(all <= sent && back <= answered, "{all} requests of {sent} and {back} answers of {answered} have arrived");
    ensure!(capture.packets().await?.iter().all(|line| !line.contains("GRE") || line.contains("key=0x7")), "the key");
    let (requests, answers) = other.shown(&capture).await?;
    ensure!(requests + answers == 0, "{requests} requests and {answers} answers of a pod without the annotation");

    // All pods of the subnet, with ERSPAN, which tcpdump does not look into.
    collected(&cluster, json!({ "to": to, "key": 9, "type": "erspan", "pods": "All" })).await?;
    let packed = |types: &'static str| async move {
        let capture = Capture::start(collector, DEVICE, "proto gre").await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let packets = capture.packets().await?;
        let of = packets.iter().filter(|line| line.contains(types)).count();
        ensure!(of == packets.len() && !packets.is_empty(), "{of} of {} packets are {types}", packets.len());
        Ok(())
    };
    process::until(LIVE, || packed("gre-proto-0x88be")).await?;
    collected(&cluster, Value::Null).await?;
    let silent = || async {
        let capture = Capture::start(collector, DEVICE, "proto gre").await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let packets = capture.packets().await?;
        ensure!(packets.is_empty(), "{} packets arrive without a collector", packets.len());
        Ok(())
    };
    process::until(LIVE, silent).await?;
    let (sent, answered) = other.end().await?;
    ensure!(sent == answered, "{answered} of {sent} packets were answered while mirrors changed");
    Ok(())
}
