//! A cluster of real servers that replicate by Raft.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{OvsdbServer, tool};
use crate::Endpoint;

/// The time in milliseconds that a member waits for its leader before it starts an election. It is short, but longer
/// than a process waits for CPU time on a busy machine.
const ELECTION_TIMER: u32 = 500;

/// The members of one cluster.
#[derive(Debug)]
pub struct OvsdbCluster {
    members: Vec<OvsdbServer>,
    database: String,
}

impl OvsdbCluster {
    /// Starts `members` servers with one new database of this schema. On return, all members have joined the cluster.
    pub fn start(schema: &str, members: usize) -> io::Result<OvsdbCluster> {
        let named: serde_json::Value = serde_json::from_str(schema)?;
        let database = named["name"].as_str().unwrap_or_default().to_owned();
        let mut cluster = OvsdbCluster { members: vec![first(schema)?], database };
        while cluster.members.len() < members {
            let remote = address(&cluster.members[0].path("db"));
            let database = &cluster.database;
            let member = OvsdbServer::create(|db| {
                Ok(vec!["join-cluster".into(), db.into(), database.into(), address(db).into(), remote.into()])
            })?;
            cluster.members.push(member);
            cluster.wait(cluster.members.len() - 1)?;
        }
        Ok(cluster)
    }

    /// Returns the unix sockets of all members.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.iter().map(OvsdbServer::endpoint).collect()
    }

    /// Returns one member.
    pub fn member(&mut self, number: usize) -> &mut OvsdbServer {
        &mut self.members[number]
    }

    /// Waits for a leader and returns its number. Killed and paused members do not count.
    pub fn leader(&self) -> usize {
        loop {
            let leads = |member: &OvsdbServer| self.status(member).is_ok_and(|said| said.contains("\nRole: leader\n"));
            if let Some(leader) = self.members.iter().position(leads) {
                return leader;
            }
        }
    }

    /// Waits until a member is connected to its cluster.
    pub fn wait(&self, number: usize) -> io::Result<()> {
        let server = self.members[number].endpoint().to_string();
        tool("ovsdb-client", ["--timeout=30", "wait", &server, &self.database, "connected"]).map(drop)
    }

    /// Returns a member's cluster status.
    fn status(&self, member: &OvsdbServer) -> io::Result<String> {
        let control: OsString = member.path("ctl").into();
        let args = ["--timeout=1".into(), "-t".into(), control, "cluster/status".into(), (&self.database).into()];
        tool("ovs-appctl", args)
    }
}

/// The first member of a new cluster.
pub(super) fn first(schema: &str) -> io::Result<OvsdbServer> {
    OvsdbServer::create(|db| {
        let file = db.with_extension("ovsschema");
        std::fs::write(&file, schema)?;
        let timer = format!("--election-timer={ELECTION_TIMER}");
        Ok(vec![timer.into(), "create-cluster".into(), db.into(), file, address(db).into()])
    })
}

/// Returns the Raft address of the member with this database file.
fn address(db: &Path) -> String {
    format!("unix:{}", db.with_file_name("raft.sock").display())
}
