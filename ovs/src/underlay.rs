//! The interface for tunnels. The userspace datapath sends tunnels only where it owns the interface: it must be a port of a
//! bridge, and the bridge's own port has its addresses.
//!
//! That port goes with ovs-vswitchd, and the addresses with it, so they are noted in the bridge's row; the interface has them
//! back while nothing runs.

use std::path::PathBuf;

use daemons::tool::{self, ToolError};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::process::Command;

/// The bridge of the tunnels' interface.
pub const BRIDGE: &str = "br-phy";
/// Where the bridge's row notes the addresses.
const NOTE: &str = "kube-ovn-addresses";

/// An interface that was named for tunnels.
#[derive(Clone, Debug)]
pub struct Underlay {
    iface: String,
    run_directory: PathBuf,
}

/// Why the interface does not do.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// There is none.
    #[error("--iface {iface}: this node has no such interface; it has {others}")]
    Unknown {
        /// What was named.
        iface: String,
        /// What there is.
        others: String,
    },
    /// Other nodes could not send to it.
    #[error("--iface {0}: it has no address")]
    NoAddress(String),
    /// A program failed that looks at it or changes it.
    #[error("--iface {iface}: {source}")]
    Tool {
        /// What was named.
        iface: String,
        /// Why.
        source: ToolError,
    },
    /// What `ip` has said is not what it says.
    #[error("ip: {0}")]
    Json(#[from] serde_json::Error),
}

/// What `ip -json address` says of a link.
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

/// What `ip -json route` says of a route.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Route {
    dst: String,
    gateway: Option<String>,
    #[serde(default)]
    protocol: String,
    metric: Option<u32>,
}

impl Underlay {
    /// The interface with this name.
    pub fn new(iface: &str, run_directory: PathBuf) -> Self {
        Self { iface: iface.to_owned(), run_directory }
    }

    /// Whether it is there and has an address, or had one that its bridge has now.
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

    /// Gives its addresses and routes to its bridge. ovs-vswitchd must run.
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

    /// Gives them back.
    pub async fn release(&self) -> Result<(), UnderlayError> {
        let addresses = self.addresses(BRIDGE).await?;
        self.hand_over(BRIDGE, &self.iface, &addresses).await
    }

    /// Routes go last, since they are refused where their gateway cannot be reached.
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
            // It was in use a moment ago: nobody else has it.
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

    /// Global addresses of a link; none when there is no such link.
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

/// Those that do not come with an address by themselves.
fn routes(said: &str) -> Result<Vec<Route>, serde_json::Error> {
    // Without any route of a family it says nothing at all.
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
