//! The interface for tunnels. The userspace datapath can send through tunnels only if the interface is a port of a
//! bridge and the bridge's internal port has the interface's addresses.
//!
//! The internal port and its addresses disappear when ovs-vswitchd exits. The addresses are therefore recorded in the
//! bridge's row, and the interface gets them back before ovs-vswitchd stops.

use std::io;

use ipnet::IpNet;
use links::{Assigned, Link, LinkError, Links};
use ovn::local::{self, Bridge, NewBridge, NewPort, Settings, UNDERLAY as BRIDGE};
use ovsdb::{Op, Replica, Row, Where};

use crate::datapath::Datapath;
use crate::session::{Session, SessionError};

/// The key in the bridge's `external_ids` that records the addresses.
const NOTE: &str = "kube-ovn-addresses";

/// The interface that was named for tunnels.
#[derive(Clone, Debug)]
pub struct Underlay {
    iface: String,
    links: Links,
}

/// Why the interface is unusable.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// The interface does not exist.
    #[error("--iface {iface}: this node has no such interface; it has {others}")]
    Unknown {
        /// The name of the interface.
        iface: String,
        /// The existing interfaces.
        others: String,
    },
    /// The interface has no address, so other nodes cannot send to it.
    #[error("--iface {0}: it has no address")]
    NoAddress(String),
    /// The interface or the internal port of its bridge has disappeared.
    #[error("--iface {iface}: there is no link {link} any more")]
    Gone {
        /// The name of the interface.
        iface: String,
        /// The missing link.
        link: String,
    },
    /// The kernel refused to read or to change the interface.
    #[error("--iface {iface}: {source}")]
    Link {
        /// The name of the interface.
        iface: String,
        /// The error.
        source: LinkError,
    },
    /// The bridge was not written to the database, or ovs-vswitchd did not create it.
    #[error("--iface {iface}: bridge {BRIDGE}: {source}")]
    Bridge {
        /// The name of the interface.
        iface: String,
        /// The error.
        source: SessionError,
    },
    /// No netlink socket can be opened.
    #[error("open a netlink socket: {0}")]
    Socket(#[from] io::Error),
}

impl Underlay {
    /// Creates the description of the interface with this name. Needs a tokio runtime.
    pub fn new(iface: &str) -> Result<Self, UnderlayError> {
        Ok(Self { iface: iface.to_owned(), links: Links::here()? })
    }

    /// Returns the links of the interface's network namespace.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Checks that the interface exists and that it or its bridge has an address.
    pub async fn check(&self) -> Result<(), UnderlayError> {
        let links = self.links.all().await.map_err(self.refused())?;
        if !links.iter().any(|link| link.name == self.iface) {
            let others = links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(UnderlayError::Unknown { iface: self.iface.clone(), others });
        }
        if self.addresses(&self.iface).await?.is_empty() && self.addresses(BRIDGE).await?.is_empty() {
            return Err(UnderlayError::NoAddress(self.iface.clone()));
        }
        Ok(())
    }

    /// Moves the interface's addresses and routes to its bridge. ovs-vswitchd must be running.
    ///
    /// The interface takes no part in ARP from then on. It still receives each request that the bridge receives, and the
    /// kernel would answer on both: other nodes would then send to either MAC address, and the tunnels are only at the
    /// bridge's.
    pub async fn bridge(&self, session: &Session) -> Result<(), UnderlayError> {
        let failed = |source| UnderlayError::Bridge { iface: self.iface.clone(), source };
        let mut addresses = self.addresses(&self.iface).await?;
        // ovs-vswitchd was killed: its port may still have them, as an operator has changed them since.
        if addresses.is_empty() {
            addresses = self.addresses(BRIDGE).await?;
        }
        if addresses.is_empty() {
            addresses = session.read(noted).map_err(failed)?;
        }
        if addresses.is_empty() {
            return Err(UnderlayError::NoAddress(self.iface.clone()));
        }
        let note = joined(&addresses);
        let ops = session.read(|replica| bridged(replica, &self.iface, &note)).map_err(failed)?;
        if !ops.is_empty() {
            session.write(&ops).await.map_err(failed)?;
            session.configured().await.map_err(failed)?;
        }
        tracing::info!(
            iface = self.iface,
            bridge = BRIDGE,
            addresses = note,
            "the bridge has the interface's addresses"
        );
        self.set_arp(false).await?;
        self.hand_over(&self.iface, BRIDGE, &addresses).await
    }

    /// Moves the addresses and routes back.
    pub async fn release(&self) -> Result<(), UnderlayError> {
        let addresses = self.addresses(BRIDGE).await?;
        self.set_arp(true).await?;
        self.hand_over(BRIDGE, &self.iface, &addresses).await
    }

    /// Routes are added last, because the kernel refuses a route whose gateway is unreachable. What the kernel refuses on the
    /// one link stays on the other, and everything else is moved all the same. Returns the first error.
    async fn hand_over(&self, from: &str, to: &str, addresses: &[IpNet]) -> Result<(), UnderlayError> {
        let (from, to) = (self.link(from).await?, self.link(to).await?);
        let routes = self.links.routes_to_move(&from).await.map_err(self.refused())?;
        self.links.set_up(&from).await.map_err(self.refused())?;
        self.links.set_up(&to).await.map_err(self.refused())?;
        let mut refusals = Vec::new();
        for address in addresses {
            let moved = async {
                self.links.delete_address(&from, *address).await?;
                self.links.add_address(&to, *address).await
            };
            if let Err(error) = moved.await {
                refusals.push(error);
                refusals.extend(self.links.add_address(&from, *address).await.err());
            }
        }
        for route in &routes {
            if let Err(error) = self.links.move_route(route, &to).await {
                refusals.push(error);
                refusals.extend(self.links.move_route(route, &from).await.err());
            }
        }
        refusals.into_iter().next().map_or(Ok(()), |first| Err(self.refused()(first)))
    }

    async fn set_arp(&self, arp: bool) -> Result<(), UnderlayError> {
        self.links.set_arp(&self.link(&self.iface).await?, arp).await.map_err(self.refused())
    }

    async fn link(&self, name: &str) -> Result<Link, UnderlayError> {
        let link = self.links.find(name).await.map_err(self.refused())?;
        link.ok_or_else(|| UnderlayError::Gone { iface: self.iface.clone(), link: name.to_owned() })
    }

    /// Returns the global addresses of a link. Empty if the link does not exist.
    async fn addresses(&self, name: &str) -> Result<Vec<IpNet>, UnderlayError> {
        let Some(link) = self.links.find(name).await.map_err(self.refused())? else { return Ok(Vec::new()) };
        let assigned = self.links.assigned().await.map_err(self.refused())?;
        let global = assigned.iter().filter(|address| address.link == link.index && address.global);
        Ok(global.filter_map(Assigned::with_prefix).collect())
    }

    fn refused(&self) -> impl FnOnce(LinkError) -> UnderlayError {
        |source| UnderlayError::Link { iface: self.iface.clone(), source }
    }
}

fn joined(addresses: &[IpNet]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Returns the addresses that the bridge's row records.
fn noted(replica: &Replica) -> Vec<IpNet> {
    let note = Bridge::find(replica, BRIDGE).and_then(|bridge| bridge.external_id(NOTE));
    note.into_iter().flat_map(|note| note.split(',')).filter_map(|text| text.parse().ok()).collect()
}

/// Returns the operations that make the interface a port of its bridge and record its addresses. Empty if nothing
/// differs.
fn bridged(replica: &Replica, iface: &str, note: &str) -> Vec<Op> {
    let chassis = Settings::find(replica).and_then(|settings| settings.external_id("system-id")).unwrap_or_default();
    let new = NewBridge { name: BRIDGE, node: chassis, datapath_type: Datapath::Netdev.as_str() };
    let mut ops = Vec::new();
    let found = Bridge::find(replica, BRIDGE);
    let id = found.map_or_else(|| new.id(), |bridge| bridge.id);
    match found {
        Some(bridge) if bridge.datapath_type() == Some(new.datapath_type) => {}
        Some(_) => {
            let row = Row::from([("datapath_type", new.datapath_type.into())]);
            ops.push(Op::Update { table: local::BRIDGE, on: Where::Row(id), row });
        }
        None => ops.extend(Settings::find(replica).into_iter().flat_map(|settings| new.add_to(settings.id))),
    }
    if found.and_then(|bridge| bridge.external_id(NOTE)) != Some(note) {
        ops.push(local::set_external_ids(local::BRIDGE, id, [(NOTE, note)]));
    }
    if !found.is_some_and(|bridge| bridge.has_port(replica, iface)) {
        ops.extend(NewPort { name: iface.to_owned(), ..NewPort::default() }.add_to(id));
    }
    ops
}

#[cfg(test)]
mod tests {
    use super::*;

    use ovsdb::client::Endpoint;
    use ovsdb::testing::OvsdbServer;

    #[test]
    fn two_nodes_have_two_bridges() {
        // Of the UUID, ovs-vswitchd makes the MAC address.
        let id = |node| NewBridge { name: BRIDGE, node, datapath_type: "netdev" }.id();
        assert_ne!(id("one").as_bytes()[..6], id("two").as_bytes()[..6]);
    }

    #[tokio::test]
    async fn the_bridge_is_written_once_and_keeps_what_is_noted() {
        let schema = std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap();
        let server = OvsdbServer::start(&schema).unwrap();
        let Endpoint::Unix(socket) = server.endpoint() else { panic!("{:?}", server.endpoint()) };
        let session = Session::new(socket);
        session.begin().await.unwrap();
        let write = async |note: &str| {
            let ops = session.read(|replica| bridged(replica, "eth1", note)).unwrap();
            session.write(&ops).await.unwrap();
            ops.len()
        };
        let note = "172.31.0.1/24,fd00:31::1/64";
        assert!(write(note).await > 0);
        assert_eq!(write(note).await, 0);
        assert_eq!(joined(&session.read(noted).unwrap()), note);
        let ports = |replica: &Replica| Bridge::find(replica, BRIDGE).map(|bridge| bridge.ports().count());
        assert_eq!(session.read(ports).unwrap(), Some(2));
        assert_eq!(write("172.31.0.2/24").await, 1);
        assert_eq!(joined(&session.read(noted).unwrap()), "172.31.0.2/24");

        let kernels = Row::from([("datapath_type", "system".into())]);
        session.write(&[Op::Update { table: local::BRIDGE, on: Where::All, row: kernels }]).await.unwrap();
        assert_eq!(write("172.31.0.2/24").await, 1);
        assert_eq!(
            session
                .read(|replica| Bridge::find(replica, BRIDGE)?.datapath_type().map(str::to_owned))
                .unwrap()
                .as_deref(),
            Some("netdev")
        );
    }
}
