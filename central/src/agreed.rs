//! Members that agree on their cluster in Kubernetes.
//!
//! The members are the nodes with a label. What each of them does to its cluster is recorded in a ConfigMap before it is done,
//! by compare-and-swap ([`record`]): so a cluster is founded once, a member without its file joins instead of founding, and the
//! others know that its former server never comes back. What becomes of a file is decided before its server opens it
//! ([`decision`]), and what a running member owes to its cluster whenever something changes ([`duties`], [`keeper`]).
//!
//! A member with data starts without the API server.

pub mod decision;
pub mod duties;
pub mod keeper;
pub mod record;
pub mod store;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::NodeView;
use daemons::damage;
use daemons::tool::ToolError;
use k8s_openapi::api::core::v1::ConfigMap;
use kit::kubernetes::{Seen, keep, named};
use kit::once::Once;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::address;
use crate::file::{File, FileError, Found};
use crate::gate::Peers;
use decision::{Decision, Me, decide};
use duties::Labelled;
use store::{Store, StoreError};

/// The pause after the API server has refused a request or not answered.
const RETRY: Duration = Duration::from_secs(1);

/// How long members without data wait for others that have said nothing, before most of them found the first cluster.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a member with data waits for the API server before it starts without.
const OFFLINE: Duration = Duration::from_secs(5);

/// Where this member is in Kubernetes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node_name: String,
    /// The namespace of the ConfigMap.
    pub namespace: String,
    /// The labels of the nodes with members.
    pub database_nodes: String,
}

/// The agreement about one database.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The name of this node.
    pub node: String,
    /// The servers that this member reaches.
    pub peers: Peers,
    /// The record.
    pub store: Store,
    /// The nodes with members.
    pub labelled: watch::Receiver<Seen<Vec<IpAddr>>>,
    /// The nodes, and the labels of those with members.
    nodes: (Api<NodeView>, String),
    /// Wakes up when the ConfigMap changes.
    pub changed: watch::Receiver<Seen<Option<String>>>,
}

/// An attempt to prepare a file.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Whether a server could not open the file.
    closely: bool,
    /// Whether the member has waited long enough for those that have said nothing.
    patient: bool,
    /// Whether it is the first attempt of this start.
    first: bool,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the nodes with members are not known yet")]
    Nodes,
    #[error("this node has not the labels of nodes with members, and the member has no data")]
    NotLabelled,
}

impl Agreement {
    /// Starts the watches of the nodes with these labels and of the ConfigMap. Returns the agreement about each database.
    pub fn watch(client: &Client, settings: &Settings, databases: [&'static str; 2], peers: &Peers) -> [Self; 2] {
        let nodes = watcher::Config::default().labels(&settings.database_nodes);
        let labelled = keep("nodes", Api::all(client.clone()), nodes, |node: NodeView| Some(with_addresses(&node)));
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
        let changed = keep("configmaps", maps, named(store::NAME), |map: ConfigMap| {
            Some((map.name_any(), map.resource_version()))
        });
        databases.map(|database| Self {
            node: settings.node_name.clone(),
            peers: peers.clone(),
            store: Store::new(client, &settings.namespace, database),
            labelled: labelled.clone(),
            nodes: (Api::all(client.clone()), settings.database_nodes.clone()),
            changed: changed.clone(),
        })
    }

    /// Asks for the nodes with members. A watch can be behind for as long as an API server hangs.
    pub async fn list_labelled(&self) -> Result<Labelled, StoreError> {
        let (api, labels) = &self.nodes;
        let nodes = store::within(api.list(&ListParams::default().labels(labels))).await?;
        Ok(nodes.iter().map(with_addresses).collect())
    }

    /// Returns the nodes with members. `None` before they are known.
    pub fn labelled(&self) -> Option<Labelled> {
        let seen = self.labelled.borrow();
        seen.synced.then(|| seen.objects.clone())
    }

    /// Prepares a file before its server opens it. If a server could not open the file, it is looked at `closely`.
    pub async fn prepare(&self, file: &File, closely: bool) -> Result<(), FileError> {
        let began = Instant::now();
        let (mut said, mut first) = (Once::default(), true);
        loop {
            // Everything that happens from here on ends the pause below.
            let (mut labelled, mut changed) = (self.labelled.clone(), self.changed.clone());
            labelled.mark_unchanged();
            changed.mark_unchanged();
            let mut pause = PATIENCE.saturating_sub(began.elapsed()).max(RETRY);
            let round = Round { closely, patient: began.elapsed() >= PATIENCE, first };
            match self.attempt(file, round, &mut said).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(AttemptError::File(error)) => return Err(error),
                Err(why) => {
                    let why = why.to_string();
                    let offline = began.elapsed() >= OFFLINE;
                    let found = file.look(closely).await?;
                    if offline && matches!(found, Found::Member(member) if member.address == file.address) {
                        warn!(path = %file.path.display(), why, "the server starts with the data that it has");
                        return Ok(());
                    }
                    if said.is_new(&why) {
                        warn!(path = %file.path.display(), why, "what other members have is not known; trying again");
                    }
                    pause = RETRY;
                }
            }
            first = false;
            tokio::select! {
                _ = labelled.changed() => {}
                _ = changed.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tries once. Returns false if others have to act first, or have just acted.
    async fn attempt(&self, file: &File, round: Round, said: &mut Once) -> Result<bool, AttemptError> {
        let read = self.store.read().await?;
        let labelled: BTreeSet<String> = self.labelled().ok_or(AttemptError::Nodes)?.into_keys().collect();
        let mut record = read.record.clone();
        let recorded = record.servers.get(&self.node).map(|server| server.id);
        let path = file.path.display();
        match file.pending().await? {
            // This member was killed between the record and the rename.
            Some(pending) if recorded == Some(pending) => file.replace(Some("replaced"))?,
            // An earlier start has made it, and nobody knows of it. It would be older than the database when it is needed.
            Some(_) if round.first => file.remove_new()?,
            _ => {}
        }
        // The server of a member that is not recorded any more may have been removed.
        let closely = round.closely || (record.cluster.is_some() && recorded.is_none());
        let found = file.look(closely).await?;
        if !labelled.contains(&self.node) {
            // It does nothing to a cluster. If it is one of those that lose their labels, it is about to end.
            return match found {
                Found::Member(member) if member.address == file.address => Ok(true),
                _ => Err(AttemptError::NotLabelled),
            };
        }
        let me = Me { node: &self.node, address: &file.address };
        match decide(&found, &record, me, &labelled, round.patient) {
            Decision::Open(identity) => {
                record.joined(&self.node, &identity);
                if record != read.record && !self.store.write(&read, &record).await? {
                    return Ok(false);
                }
                file.remove_new()?;
                Ok(true)
            }
            Decision::Wait => {
                if record.empty.insert(self.node.clone()) {
                    self.store.write(&read, &record).await?;
                }
                let silent: Vec<&str> = labelled.difference(&record.empty).map(String::as_str).collect();
                let silent = silent.join(", ");
                if said.is_new(&silent) {
                    info!(%path, nodes = silent, "there is no database yet: waiting whether these nodes have one");
                }
                Ok(false)
            }
            Decision::Create { contents, keep } => {
                let contents = if contents { &found } else { &Found::Nothing };
                let identity = match file.create(contents).await {
                    // The server works with any address.
                    Err(FileError::Tool(error)) if error.said().is_some_and(damage::is_torn) => {
                        warn!(%path, %error, "the file is opened as it is");
                        return Ok(true);
                    }
                    Err(FileError::Tool(error)) if *contents != Found::Nothing && is_about_contents(&error) => {
                        error!(%path, %error, "THE CONTENTS CANNOT BE TAKEN OVER: the cluster begins without them");
                        file.create(&Found::Nothing).await?
                    }
                    other => other?,
                };
                record.founds(&self.node, &identity);
                if !self.store.write(&read, &record).await? {
                    return Ok(false);
                }
                say(&found, file);
                info!(%path, cluster = %identity.cluster, from = ?contents, "a cluster is founded");
                file.replace(keep)?;
                Ok(true)
            }
            Decision::Join { others, keep } => {
                self.peers.know(others.iter().filter_map(|other| address::gate(other)));
                let server = file.join(&others).await?;
                if let Found::Member(identity) = &found
                    && Some(identity.cluster) == record.cluster
                {
                    record.gone.insert(identity.server, identity.address.clone());
                }
                record.joins(&self.node, server, &file.address);
                if !self.store.write(&read, &record).await? {
                    return Ok(false);
                }
                say(&found, file);
                info!(%path, %server, ?others, "this member joins the others with a new server");
                file.replace(keep)?;
                Ok(true)
            }
        }
    }
}

/// Returns true if a file cannot be converted whatever is done, and not only now, as on a full disk.
fn is_about_contents(error: &ToolError) -> bool {
    error.said().is_some_and(|said| said.contains("syntax error: ") || damage::is_damage(said))
}

/// Returns the name of a node and its addresses.
fn with_addresses(node: &NodeView) -> (String, Vec<IpAddr>) {
    (node.name_any(), node.internal_ips().collect())
}

fn say(found: &Found, file: &File) {
    if let Found::Damaged(why) = found {
        error!(path = %file.path.display(), why, "THE DATABASE CANNOT BE READ: its file is kept, and another one takes its place");
    }
}
