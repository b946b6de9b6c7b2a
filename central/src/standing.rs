//! The place of a server in its cluster, from the output of `cluster/status` (ovsdb-server(1)).

use std::net::{IpAddr, SocketAddr};

use uuid::Uuid;

use crate::address;
use crate::file::Identity;
use crate::leader::Place;

/// What a server says of itself and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The status in its own words, such as `cluster member`.
    pub status: String,
    /// The ID of the cluster, unless the server is joining one.
    pub cluster: Option<Uuid>,
    /// The ID of the server.
    pub server: Option<Uuid>,
    /// The address of the server.
    pub address: String,
    /// Whether the server has no data yet, and asks others to let it join their cluster.
    pub joining: bool,
    /// The addresses of those that it asks.
    pub remotes: Vec<String>,
    /// Whether the server is a member whose cluster has a leader that it knows.
    pub connected: bool,
    /// Whether the server is the leader.
    pub leads: bool,
    /// The election timer of the cluster in milliseconds.
    pub election_timer: Option<u32>,
    /// Where the leader is, if it is known.
    pub leader: Option<Place>,
    /// The servers of the cluster.
    pub servers: Vec<Server>,
}

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The first digits of its ID, which commands take for the ID.
    pub id: String,
    /// Its address ([`crate::address`]).
    pub address: String,
    /// Whether it is the one that answered.
    pub is_self: bool,
}

impl Standing {
    /// Reads the output of `cluster/status`.
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        let servers: Vec<_> =
            text.lines().skip_while(|line| *line != "Servers:").skip(1).filter_map(Server::parse).collect();
        let (status, leader) = (value("Status:"), value("Leader:"));
        // Such as `1259 (1259e6cb-3049-498f-a324-cb626026c5c8)`.
        let id = |key| value(key).split_once('(')?.1.trim_end_matches(')').parse().ok();
        Self {
            cluster: id("Cluster ID:"),
            server: id("Server ID:"),
            address: value("Address:").to_owned(),
            joining: status.starts_with("joining"),
            remotes: value("Remotes for joining:").split_whitespace().map(str::to_owned).collect(),
            connected: status == "cluster member" && !matches!(leader, "" | "unknown"),
            status: status.to_owned(),
            leads: leader == "self",
            election_timer: value("Election timer:").parse().ok(),
            leader: match leader {
                "self" => Some(Place::Here),
                id => servers.iter().find(|server| server.id == id).and_then(Server::host).map(Place::There),
            },
            servers,
        }
    }

    /// Returns the identity of the server, once it is a member of a cluster.
    pub fn identity(&self) -> Option<Identity> {
        if self.joining || self.address.is_empty() {
            return None;
        }
        Some(Identity { cluster: self.cluster?, server: self.server?, address: self.address.clone() })
    }

    /// Returns the addresses of the gates of the servers that it speaks with.
    pub fn gates(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let servers = self.servers.iter().map(|server| &server.address);
        servers.chain(&self.remotes).filter_map(|server| address::gate(server))
    }

    /// Says why the server is not connected.
    pub fn why(&self) -> &str {
        // A member that has just lost its leader.
        if self.status == "cluster member" { "no leader is known" } else { &self.status }
    }

    /// Returns the IDs of other servers with this address, which is that of the server that answered. They had it before.
    pub fn predecessors(&self, address: &str) -> impl Iterator<Item = &str> {
        let own = self.servers.iter().find(|server| server.is_self && server.address == address);
        let others = self.servers.iter().filter(move |server| {
            own.is_some_and(|own| !server.is_self && server.address == own.address && server.id != own.id)
        });
        others.map(|server| server.id.as_str())
    }
}

impl Server {
    /// Returns the IP address of the server.
    pub fn host(&self) -> Option<IpAddr> {
        address::gate(&self.address).map(|gate| gate.ip())
    }

    /// Returns true if this is the server with this ID and address.
    pub fn is(&self, id: Uuid, address: &str) -> bool {
        self.address == address && id.hyphenated().to_string().starts_with(&self.id)
    }

    /// Reads a line such as `4db3 (4db3 at tcp:127.0.0.2:6643) (self) next_index=5 match_index=4`.
    fn parse(line: &str) -> Option<Self> {
        let (id, rest) = line.trim().split_once(" (")?;
        let (place, rest) = rest.split_once(')')?;
        let (_, address) = place.split_once(" at ")?;
        Some(Self { id: id.to_owned(), address: address.to_owned(), is_self: rest.trim_start().starts_with("(self)") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of an ovsdb-server 3.5 that has joined with the address of a server that is gone.
    const JOINED: &str = "\
ae04
Name: OVN_Northbound
Cluster ID: 1259 (1259e6cb-3049-498f-a324-cb626026c5c8)
Server ID: ae04 (ae04ab6d-fb63-4153-9f5c-0b2d49e1fe3c)
Address: tcp:127.0.0.3:17643
Status: cluster member
Role: follower
Term: 1
Leader: d193
Vote: unknown

Election timer: 1000
Log: [2, 6]
Entries not yet committed: 0
Entries not yet applied: 0
Connections: ->4db3 ->d193 <-4db3 <-d193
Disconnections: 0
Servers:
    4db3 (4db3 at tcp:127.0.0.2:17643) last msg 91 ms ago
    ae04 (ae04 at tcp:127.0.0.3:17643) (self)
    d193 (d193 at tcp:127.0.0.1:17643) last msg 12 ms ago
    295a (295a at tcp:127.0.0.3:17643)
";

    #[test]
    fn a_former_server_with_the_same_address_is_found() {
        let standing = Standing::parse(JOINED);
        assert!(standing.connected && !standing.leads);
        assert_eq!(standing.leader, Some(Place::There([127, 0, 0, 1].into())));
        assert_eq!(standing.servers.len(), 4);
        assert_eq!(standing.predecessors("tcp:127.0.0.3:17643").collect::<Vec<_>>(), ["295a"]);
        assert_eq!(
            standing.predecessors("tcp:127.0.0.2:17643").count(),
            0,
            "only this server can say so of its own address"
        );
    }

    #[test]
    fn without_a_leader_it_is_not_connected() {
        let leading = Standing::parse("Status: cluster member\nRole: leader\nLeader: self\n");
        assert!(leading.connected && leading.leads);
        for (text, why) in [
            ("Status: cluster member\nRole: follower\nLeader: unknown\n", "no leader is known"),
            (
                "Status: disconnected from the cluster (election timeout)\nRole: candidate\nLeader: unknown\n",
                "disconnected from the cluster (election timeout)",
            ),
            ("Status: joining cluster\nRole: follower\nLeader: unknown\n", "joining cluster"),
            ("", ""),
        ] {
            let standing = Standing::parse(text);
            assert!(!standing.connected && !standing.leads, "{text}");
            assert_eq!(standing.why(), why);
        }
    }
}
