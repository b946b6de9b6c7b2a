//! What the members have agreed on about one database: a value of the ConfigMap.
//!
//! A member writes what it is about to do before it does it, and only over the version that it has read. So no two members
//! found clusters beside each other, and each knows which servers never come back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::file::Identity;

/// The members of one database. Fields that are missing are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The ID of the cluster. `None` before the first one is founded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Uuid>,
    /// The server of each node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, Server>,
    /// The addresses of servers whose files are gone for good, by ID. The leader removes them from the cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gone: BTreeMap<Uuid, String>,
    /// Nodes that have no data, before a cluster is founded.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub empty: BTreeSet<String>,
    /// The node that founds the cluster anew from its file, because so many servers are gone that no majority is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivor: Option<String>,
    /// The IDs of the clusters that this one and its predecessors have succeeded, the last one last. Their members can come back
    /// with a majority, and have no say then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Uuid>,
}

/// How many clusters of the past are remembered.
const REMEMBERED: usize = 16;

/// The server of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The ID of the server.
    pub id: Uuid,
    /// The address of the server ([`crate::address`]).
    pub address: String,
    /// Whether it has joined the cluster, so that it has the data.
    pub joined: bool,
}

impl Record {
    /// Returns the servers of other nodes that have the data and are not gone.
    pub fn others_with_data<'a>(
        &'a self,
        node: &'a str,
        labelled: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a Server> {
        self.servers
            .iter()
            .filter(move |(name, _)| *name != node && labelled.contains(*name))
            .map(|(_, server)| server)
            .filter(|server| server.joined && !self.gone.contains_key(&server.id))
    }

    /// Records that the server of this node is a member of the cluster.
    pub fn joined(&mut self, node: &str, identity: &Identity) {
        self.cluster = Some(identity.cluster);
        let server = Server { id: identity.server, address: identity.address.clone(), joined: true };
        self.servers.insert(node.to_owned(), server);
        self.empty.clear();
    }

    /// Records that this node founds a cluster. All other servers are of an earlier one.
    pub fn founds(&mut self, node: &str, identity: &Identity) {
        self.succeeds(identity.cluster);
        for server in self.servers.values_mut() {
            server.joined = false;
        }
        self.gone.clear();
        self.survivor = None;
        self.joined(node, identity);
    }

    /// Records that this cluster takes the place of the one that is recorded.
    pub fn succeeds(&mut self, cluster: Uuid) {
        self.superseded.extend(self.cluster.filter(|before| *before != cluster));
        let most = self.superseded.len().saturating_sub(REMEMBERED);
        self.superseded.drain(..most);
        self.cluster = Some(cluster);
    }

    /// Records that a new server of this node joins the cluster. The one that the node had before is gone.
    pub fn joins(&mut self, node: &str, id: Uuid, address: &str) {
        let server = Server { id, address: address.to_owned(), joined: false };
        if let Some(before) = self.servers.insert(node.to_owned(), server) {
            self.gone.insert(before.id, before.address);
        }
        self.empty.remove(node);
    }
}
