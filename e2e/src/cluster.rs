//! The lab as tests see it: a running [`Cluster`], a [`Scene`] with the objects of one test, and [`Place`]s that send
//! packets.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let cluster = e2e::Cluster::running().await?;
//! let scene = cluster.scene("a1").await?;
//! scene.namespace("shop", &[("ovn.kubernetes.io/cidr", "10.17.0.0/24")]).await?;
//! let (web, db) = tokio::try_join!(scene.pod("shop", "web").on("n1").ready(), scene.pod("shop", "db").on("n2").ready())?;
//! web.place().ping(&db.ip4()?).await?;
//! # Ok(()) }
//! ```
//!
//! All waits use watches. Each has a time limit, and its error describes the actual state.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::Subnet;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Event, Node as NodeObject};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::layout::{Node, OUTSIDE_NETNS, kubeconfig};
use crate::pace;

mod capture;
pub mod datapath;
pub mod nb;
pub mod place;
pub mod pod;
pub mod scene;
pub mod traffic;

pub use capture::Capture;
pub use place::{Answer, Place, Target};
pub use pod::{Pod, is_ready};
pub use scene::Scene;

/// The time limit of a wait on a real machine, see [`pace`]. It is far beyond every expected duration, so a timeout always means a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running lab.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Returns the lab that is running on this machine.
    pub async fn running() -> Result<Self> {
        ensure!(kubeconfig().exists(), "no lab is up: run `make lab-up`, as root");
        let client = crate::kube::client().await?;
        client
            .apiserver_version()
            .await
            .context("a lab was brought up, but does not answer: run `make lab-down lab-up`")?;
        Ok(Self { client })
    }

    /// Returns a Kubernetes client with admin rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the nodes, `n1` first.
    pub fn nodes(&self) -> Vec<Node> {
        Node::running()
    }

    /// Returns a node as a place: the node's network namespace.
    pub fn node(&self, name: &str) -> Result<Place> {
        Node::named(name).filter(|n| n.pid().is_some()).map(Place::Node).with_context(|| format!("no node {name} runs"))
    }

    /// Returns a host on the nodes' network outside of the cluster. It runs `lab-peer`, see [`crate::layout::OUTSIDE`].
    pub fn outside(&self) -> Place {
        Place::Host(OUTSIDE_NETNS)
    }

    /// Returns the Node object of a node.
    pub async fn node_object(&self, name: &str) -> Result<NodeObject> {
        Ok(Api::all(self.client()).get(name).await?)
    }

    /// Returns an empty scene. Removes what an earlier run of the scene has left.
    pub async fn scene(&self, name: &'static str) -> Result<Scene> {
        Scene::empty(self.clone(), name).await
    }

    /// Watches an object until `check` succeeds, and returns it.
    pub async fn until<K>(&self, api: Api<K>, name: &str, check: impl Fn(&K) -> Result<()> + Send + Sync) -> Result<K>
    where
        K: Resource<DynamicType: Default> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        let wait = await_condition(api.clone(), name, |object: Option<&K>| object.is_some_and(|o| check(o).is_ok()));
        match tokio::time::timeout(pace::limit(PATIENCE), Box::pin(wait)).await {
            Ok(object) => object?.with_context(|| format!("{kind} {name} has gone")),
            Err(_) => match api.get_opt(name).await? {
                None => bail!("{kind} {name} is not there after {PATIENCE:?}"),
                Some(object) => {
                    let amiss = check(&object).err().unwrap_or_else(|| anyhow!("right at the last moment"));
                    Err(amiss.context(format!("{kind} {name} after {PATIENCE:?}")))
                }
            },
        }
    }

    /// Waits for an event in this namespace that matches the field selector and whose message contains all words.
    pub async fn told(&self, namespace: &str, fields: &str, words: &[&str]) -> Result<()> {
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        let config = watcher::Config::default().fields(fields);
        let said = |event: &Event| {
            let message = event.message.as_deref().unwrap_or_default();
            words.iter().all(|word| message.contains(word))
        };
        let mut heard = pin!(watcher(events, config).applied_objects());
        let wait = async {
            while let Some(event) = heard.try_next().await? {
                if said(&event) {
                    return Ok(());
                }
            }
            bail!("the watch ended")
        };
        let heard = tokio::time::timeout(pace::limit(PATIENCE), wait).await;
        heard.with_context(|| format!("no event of {fields} with {words:?} after {PATIENCE:?}"))?
    }

    /// Watches until the object is gone.
    pub async fn until_gone<K>(&self, api: Api<K>, name: &str) -> Result<()>
    where
        K: Resource<DynamicType: Default> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
    {
        let wait = await_condition(api, name, |object: Option<&K>| object.is_none());
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        tokio::time::timeout(pace::limit(PATIENCE), Box::pin(wait))
            .await
            .with_context(|| format!("{kind} {name} is still there after {PATIENCE:?}"))??;
        Ok(())
    }
}

/// For [`Cluster::until`]: checks that the subnet is Ready.
pub fn subnet_ready(subnet: &Subnet) -> Result<()> {
    let conditions = subnet.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ensure!(ready, "not Ready: {:?}", conditions.iter().map(|c| (&c.type_, &c.status, &c.message)).collect::<Vec<_>>());
    Ok(())
}
