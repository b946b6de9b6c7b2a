//! The end of the veth pair in the container's namespace: its sysctls, checksum offload, addresses and routes.

use api::annotations::PodRoute;
use cni_wire::{CniError, Code};
use ipnet::IpNet;
use links::netns::{Netns, tx_checksum_off};
use links::sysctl;
use links::{Links, Route};

use super::error;

/// The wanted state of the container's interface.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Its name. The interface exists and is down.
    pub(super) ifname: String,
    /// Its addresses with the subnet's prefix length.
    pub(super) addresses: Vec<IpNet>,
    /// Its routes: the default routes first.
    pub(super) routes: Vec<PodRoute>,
    /// The MTU of the routes in bytes, if it is not that of the interface.
    pub(super) routes_mtu: Option<u32>,
    /// Whether the pod may leave checksums to the other end.
    pub(super) checksum: bool,
}

impl Wanted {
    /// Applies it, on a separate thread in the namespace.
    pub(super) async fn apply(&self, netns: &Netns) -> Result<(), CniError> {
        let wanted = self.clone();
        let work = move || {
            let failed = |e| CniError::new(Code::PLUMBING, "the pod's namespace").details(e);
            wanted.prepare().map_err(failed)?;
            links::alone(async move |links: Links| wanted.configure(&links).await).map_err(failed)?
        };
        netns.run(work).await.map_err(error::environment)?
    }

    /// Sets what netlink cannot set.
    fn prepare(&self) -> std::io::Result<()> {
        // Runtimes disable IPv6 in new namespaces. A pod takes no addresses from router advertisements.
        for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0")] {
            for scope in ["all", "default"] {
                sysctl::set("ipv6", scope, name, value)?;
            }
        }
        // What an interface sends when it comes up (duplicate address detection, listener reports) is flooded to every
        // port of the subnet, which is expensive (see `announce`). No duplicate address is possible. The first listener
        // reports are sent before the port has flows, and are lost; they are repeated after a day. The pod still answers
        // queries, and still reports a group that it joins later.
        let quiet = [
            ("accept_ra", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
            ("router_solicitations", "0"),
            ("mldv2_unsolicited_report_interval", "86400000"),
        ];
        for (name, value) in quiet {
            sysctl::set("ipv6", &self.ifname, name, value)?;
        }
        let off = if self.addresses.iter().any(|address| address.addr().is_ipv6()) { "0" } else { "1" };
        sysctl::set("ipv6", &self.ifname, "disable_ipv6", off)?;
        if !self.checksum {
            tx_checksum_off(&self.ifname)?;
        }
        Ok(())
    }

    async fn configure(&self, links: &Links) -> Result<(), CniError> {
        let link = links.find(&self.ifname).await.map_err(error::plumbing)?;
        let Some(link) = link else {
            return Err(error::try_again(&format!("{} left the pod's namespace", self.ifname)));
        };
        links.set_up(&link).await.map_err(error::plumbing)?;
        for address in &self.addresses {
            links.add_address(&link, *address).await.map_err(error::plumbing)?;
        }
        for PodRoute { to, via } in &self.routes {
            let route = Route { to: *to, via: *via, src: None, mtu: self.routes_mtu };
            links.add_route(&link, &route).await.map_err(error::plumbing)?;
        }
        Ok(())
    }
}
