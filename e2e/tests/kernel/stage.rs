//! The pods that the tests share. They are created by the first test that needs them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use api::Subnet;
use e2e::bare::{self, Pod};
use e2e::cluster::{Place, Target, subnet_ready};
use e2e::layout::Node;
use e2e::{Cluster, pace, process};
use kube::Api;
use serde_json::json;
use tokio::sync::OnceCell;

/// The namespace of the pods in the default subnet.
pub const NAMESPACE: &str = "kernel";
/// The namespace and the subnet of pods with the largest MTU that fits through the tunnels.
pub const WIDE: &str = "wide";
/// That MTU: 1500 bytes without Geneve's headers.
pub const WIDE_MTU: u32 = 1442;
/// The MTU of pods in other subnets.
pub const MTU: u32 = 1400;
/// The port of the first node that leads to [`Stage::near`].
pub const HOST_PORT: u16 = 28080;

/// The pods.
#[derive(Clone, Debug)]
pub struct Stage {
    /// On the first node, with [`HOST_PORT`].
    pub near: Pod,
    /// On the first node.
    pub next: Pod,
    /// On the second node.
    pub far: Pod,
    /// On the first node, in the subnet [`WIDE`].
    pub wide: Pod,
    /// On the second node, in the subnet [`WIDE`].
    pub wide_far: Pod,
}

static STAGE: OnceCell<Stage> = OnceCell::const_new();

/// Returns the shared pods.
pub async fn stage() -> Result<&'static Stage> {
    STAGE.get_or_try_init(make).await
}

async fn make() -> Result<Stage> {
    let cluster = Cluster::running().await?;
    let client = cluster.client();
    bare::namespace(&client, NAMESPACE).await?;
    bare::namespace(&client, WIDE).await?;
    let spec =
        json!({"cidrBlock": "10.42.0.0/24,fd00:42::/112", "namespaces": [WIDE], "mtu": WIDE_MTU, "natOutgoing": true});
    subnet(&cluster, WIDE, spec).await?;
    let stage = Stage {
        near: Pod::new(NAMESPACE, "near", Node::ONE).host_port(HOST_PORT).plug(&client).await?,
        next: Pod::new(NAMESPACE, "next", Node::ONE).plug(&client).await?,
        far: Pod::new(NAMESPACE, "far", Node::TWO).plug(&client).await?,
        wide: Pod::new(WIDE, "wide", Node::ONE).plug(&client).await?,
        wide_far: Pod::new(WIDE, "wide-far", Node::TWO).plug(&client).await?,
    };
    for pod in [&stage.near, &stage.next, &stage.far, &stage.wide, &stage.wide_far] {
        answers(&pod.place()).await?;
    }
    Ok(stage)
}

/// Creates a subnet and waits until it is in force.
pub async fn subnet(cluster: &Cluster, name: &str, spec: serde_json::Value) -> Result<()> {
    let manifest = json!({"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec});
    bare::create(&cluster.client(), manifest).await?;
    cluster.until(Api::<Subnet>::all(cluster.client()), name, subnet_ready).await.map(drop)
}

/// Waits until the peer at a place answers on the loopback interface, that is, until it listens.
pub async fn answers(place: &Place) -> Result<()> {
    let targets = Target::both(Ipv4Addr::LOCALHOST.into());
    let listens = async || place.ask(&targets).await?.into_iter().try_for_each(|answer| answer.map(drop));
    process::until(Duration::from_secs(10), listens).await.with_context(|| format!("lab-peer at {place}"))
}

/// Sends an echo request, which must be answered.
pub async fn echo(from: &Place, to: IpAddr) -> Result<()> {
    let (to, patience) = (to.to_string(), pace::seconds(2));
    from.run("ping", &["-c", "1", "-W", &patience, &to]).await.map(drop).with_context(|| format!("{from} to {to}"))
}
