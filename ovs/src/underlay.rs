//! The interface for tunnels. The userspace datapath can send through tunnels only if the interface is a port of a
//! bridge and the bridge's internal port has the interface's addresses.
//!
//! The internal port and its addresses disappear with ovs-vswitchd. The addresses are therefore recorded in the
//! bridge's row, and the interface gets them back when ovs-vswitchd stops.

use std::path::PathBuf;

use daemons::tool::{self, ToolError};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::process::Command;

/// The bridge with the interface for tunnels.
pub const BRIDGE: &str = "br-phy";
/// The key in the bridge's `external_ids` that records the addresses.
const NOTE: &str = "kube-ovn-addresses";

/// The interface that was named for tunnels.
#[derive(Clone, Debug)]
pub struct Underlay {
    iface: String,
    run_directory: PathBuf,
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
    /// A tool that reads or changes the interface failed.
    #[error("--iface {iface}: {source}")]
    Tool {
        /// The name of the interface.
        iface: String,
        /// The error.
        source: ToolError,
    },
    /// The output of `ip` cannot be parsed.
    #[error("ip: {0}")]
    Json(#[from] serde_json::Error),
}

/// A link in the output of `ip -json address`.
#[derive(Debug, Deserialize)]
struct Link {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    local: std::net::IpAddr,
    prefixlen: u8,
    scope: String,
}

/// A route in the output of `ip -json route`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Route {
    dst: String,
    gateway: Option<String>,
    #[serde(default)]
    protocol: String,
    metric: Option<u32>,
}

impl Underlay {
    /// Creates the description of the interface with this name.
    pub fn new(iface: &str, run_directory: PathBuf) -> Self {
        Self { iface: iface.to_owned(), run_directory }
    }

    /// Checks that the interface exists and that it or its bridge has an address.
    pub async fn check(&self) -> Result<(), UnderlayError> {
        let links = links(&self.ip(&["-json", "address"]).await?)?;
        let addresses = |name: &str| links.iter().find(|link| link.ifname == name).map(global);
        match addresses(&self.iface) {
            Some(own) if own.is_empty() && addresses(BRIDGE).is_none_or(|bridges| bridges.is_empty()) => {
                Err(UnderlayError::NoAddress(self.iface.clone()))
            }
            Some(_) => Ok(()),
            None => {
                let others = links.iter().map(|link| link.ifname.as_str()).collect::<Vec<_>>().join(", ");
                Err(UnderlayError::Unknown { iface: self.iface.clone(), others })
            }
        }
    }

    /// Moves the interface's addresses and routes to its bridge. ovs-vswitchd must be running.
    pub async fn bridge(&self) -> Result<(), UnderlayError> {
        let iface = self.iface.as_str();
        self.vsctl(&["--may-exist", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, "datapath_type=netdev"]).await?;
        let mut addresses = self.addresses(iface).await?;
        if addresses.is_empty() {
            let noted = self.vsctl(&["br-get-external-id", BRIDGE, NOTE]).await?;
            addresses = noted.trim().split(',').filter_map(|text| text.parse().ok()).collect();
        } else {
            self.vsctl(&["br-set-external-id", BRIDGE, NOTE, &joined(&addresses)]).await?;
        }
        if addresses.is_empty() {
            return Err(UnderlayError::NoAddress(iface.to_owned()));
        }
        self.vsctl(&["--may-exist", "add-port", BRIDGE, iface]).await?;
        tracing::info!(
            iface,
            bridge = BRIDGE,
            addresses = joined(&addresses),
            "the bridge has the interface's addresses"
        );
        self.hand_over(iface, BRIDGE, &addresses).await
    }

    /// Moves the addresses and routes back.
    pub async fn release(&self) -> Result<(), UnderlayError> {
        let addresses = self.addresses(BRIDGE).await?;
        self.hand_over(BRIDGE, &self.iface, &addresses).await
    }

    /// Routes are added last, because the kernel refuses a route whose gateway is unreachable.
    async fn hand_over(&self, from: &str, to: &str, addresses: &[IpNet]) -> Result<(), UnderlayError> {
        let mut lost = Vec::new();
        for family in ["-4", "-6"] {
            let said = self.ip(&[family, "-json", "route", "show", "dev", from]).await?;
            lost.extend(routes(&said)?.into_iter().map(|route| (family, route)));
        }
        self.ip(&["link", "set", from, "up"]).await?;
        self.ip(&["link", "set", to, "up"]).await?;
        for address in addresses {
            if self.addresses(from).await?.contains(address) {
                self.ip(&["address", "del", &address.to_string(), "dev", from]).await?;
            }
            let text = address.to_string();
            let mut line = vec!["address", "replace", &text, "dev", to];
            // The address was just in use on this node, so duplicate address detection is not needed.
            line.extend(matches!(address, IpNet::V6(_)).then_some("nodad"));
            self.ip(&line).await?;
        }
        for (family, route) in lost {
            let mut line = vec![family, "route", "replace", &route.dst];
            let metric = route.metric.map(|metric| metric.to_string());
            line.extend(route.gateway.iter().flat_map(|gateway| ["via", gateway.as_str()]));
            line.extend(["dev", to]);
            line.extend(metric.iter().flat_map(|metric| ["metric", metric.as_str()]));
            self.ip(&line).await?;
        }
        Ok(())
    }

    /// Returns the global addresses of a link. Empty if the link does not exist.
    async fn addresses(&self, link: &str) -> Result<Vec<IpNet>, UnderlayError> {
        let links = links(&self.ip(&["-json", "address"]).await?)?;
        Ok(links.iter().filter(|has| has.ifname == link).flat_map(global).collect())
    }

    async fn ip(&self, arguments: &[&str]) -> Result<String, UnderlayError> {
        tool::run("ip", arguments).await.map_err(|source| UnderlayError::Tool { iface: self.iface.clone(), source })
    }

    async fn vsctl(&self, arguments: &[&str]) -> Result<String, UnderlayError> {
        let mut command = Command::new("ovs-vsctl");
        command.env("OVS_RUNDIR", &self.run_directory).arg("--timeout=20").args(arguments);
        tool::finish(command).await.map_err(|source| UnderlayError::Tool { iface: self.iface.clone(), source })
    }
}

fn links(said: &str) -> Result<Vec<Link>, serde_json::Error> {
    serde_json::from_str(said)
}

fn global(link: &Link) -> Vec<IpNet> {
    let global = link.addr_info.iter().filter(|address| address.scope == "global");
    global.filter_map(|address| IpNet::new(address.local, address.prefixlen).ok()).collect()
}

/// Returns the routes that the kernel does not create with an address.
fn routes(said: &str) -> Result<Vec<Route>, serde_json::Error> {
    // `ip` prints nothing if there is no route of the address family.
    let all: Vec<Route> = if said.trim().is_empty() { Vec::new() } else { serde_json::from_str(said)? };
    Ok(all.into_iter().filter(|route| route.protocol != "kernel").collect())
}

fn joined(addresses: &[IpNet]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_routes_are_read_from_what_ip_says() {
        let said = r#"[{"ifindex":2,"ifname":"eth1","addr_info":[
            {"family":"inet","local":"172.31.0.1","prefixlen":24,"scope":"global","label":"eth1"},
            {"family":"inet6","local":"fd00:31::1","prefixlen":64,"scope":"global"},
            {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]},{"ifname":"lo","addr_info":[{}]}]"#;
        assert!(links(said).is_err());
        let links = links(&said.replace("[{}]", "[]")).unwrap();
        assert_eq!(joined(&global(&links[0])), "172.31.0.1/24,fd00:31::1/64");
        let said = r#"[{"dst":"default","gateway":"172.31.0.254","protocol":"static","metric":100,"flags":[]},
            {"dst":"172.31.0.0/24","protocol":"kernel","scope":"link","prefsrc":"172.31.0.1","flags":[]}]"#;
        let expected = Route {
            dst: "default".into(),
            gateway: Some("172.31.0.254".into()),
            protocol: "static".into(),
            metric: Some(100),
        };
        assert_eq!(routes(said).unwrap(), [expected]);
        assert_eq!(routes("").unwrap(), []);
    }
}
