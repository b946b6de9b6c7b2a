//! The attachment of a container: ADD and DEL.
//!
//! An ADD waits for the pod's allocation and creates a veth pair whose peer is in the container's namespace from the
//! start. Then it configures the peer, and at the same time adds a port to the integration bridge and waits until
//! ovn-controller reports the port's flows as installed. Each wait ends at the deadline with "try again". An ADD that
//! fails is undone. A DEL succeeds if there is nothing to delete.

mod check;
mod defaults;
mod error;
mod inside;
mod label;
mod wait;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::EffectiveSubnet;
use api::annotations::PodRoute;
use cni_wire::rpc::{Address, Attached, Attachment};
use cni_wire::{CniError, Code};
use links::Links;
use links::netns::Netns;
use ovn::local::Interface;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};

use crate::allocation::Allocation;
use crate::metrics::Metrics;
use crate::mirror::Chosen;
use crate::ovs::{Encap, Ovs, PendingPort, PodPort};
use crate::seen::{Leases, Pod, Seen};
use crate::tunnel::{Mtu, Networks};

pub use defaults::Defaults;
pub use label::Label;

/// What ADD, DEL and CHECK need.
#[derive(Clone, Debug)]
pub struct Attacher {
    /// The node's Open vSwitch.
    pub ovs: Ovs,
    /// The node's links.
    pub links: Links,
    /// This node's pods.
    pub pods: watch::Receiver<Seen<Pod>>,
    /// Whose packets are mirrored.
    pub mirrored: Chosen,
    /// Their IP objects.
    pub leases: watch::Receiver<Leases>,
    /// The subnets in force.
    pub subnets: watch::Receiver<Seen<EffectiveSubnet>>,
    /// The node's MTU for pods. `None` while it is not known.
    pub mtu: watch::Receiver<Option<Mtu>>,
    /// The node's further networks, by which tunnels of some subnets go. `None` while they are not known.
    pub networks: watch::Receiver<Option<Networks>>,
    /// The limits that pods have from their namespaces and subnets.
    pub defaults: Defaults,
    /// The time limit of an ADD.
    pub patience: Duration,
    /// The metrics of the waits.
    pub metrics: Metrics,
    /// The number of ports that were added again.
    pub restored: watch::Sender<u32>,
    /// Whether the firewall rules are in place.
    pub rules: watch::Receiver<Result<(), String>>,
    /// Held while a veth pair is created. The kernel creates one at a time, and requests that wait there slow it down.
    pub making: Arc<Mutex<()>>,
}

/// The time limit for the removal of a port.
pub const UNPLUG: Duration = Duration::from_secs(10);

/// Returns the name of the host end: the first 12 bytes of the container ID and `_h`, as in kube-ovn.
pub fn host_ifname(container_id: &str) -> String {
    let end = container_id.char_indices().nth(12).map_or(container_id.len(), |(at, _)| at);
    format!("{}_h", &container_id[..end])
}

/// Whether the request is for another interface of the same container than the known one. A runtime attaches and detaches
/// each interface by itself, for example for Multus.
fn is_other(known: &str, attachment: &Attachment) -> bool {
    // A port of kube-ovn does not say which interface it is of.
    !known.is_empty() && !attachment.ifname.is_empty() && known != attachment.ifname
}

impl Attacher {
    /// Attaches a container.
    pub async fn add(&self, attachment: &Attachment) -> Result<Attached, CniError> {
        attachment.validate()?;
        let deadline = Instant::now() + self.patience;
        let path = attachment.netns.as_deref().unwrap_or_default();
        let netns = Arc::new(Netns::open(path).map_err(error::environment)?);
        let node_mtu = self.node_mtu(deadline).await?;
        self.firewall(deadline).await?;
        timeout_at(deadline, self.ovs.bridge()).await.map_err(|_| error::try_again("bridge br-int is not there"))?;
        let asked = std::time::Instant::now();
        let net = self.allocation(attachment, deadline).await;
        self.metrics.waited_for_address(asked);
        let net = net?;
        let network = self.network(attachment, &net, deadline).await?;
        let mtu = wait::pod_mtu(&net.subnet, network.map_or(node_mtu, |network| network.mtu));
        // What leaves the subnet, for example to a node, goes by the tunnel interface.
        let routes_mtu = Some(node_mtu.of(net.subnet.mtu)).filter(|outside| *outside < mtu);

        let host = host_ifname(&attachment.container_id);
        // Without its port, the link of another interface is still in the way of the new one.
        if let Some(other) = self.interface_of_port(attachment).filter(|known| is_other(known, attachment)) {
            let why = format!("container {} has interface {other} already", attachment.container_id);
            return Err(CniError::new(Code::CONFIG, why).details("a second interface of a pod is not served"));
        }
        let pending = self.ovs.pending_port();
        // If this fails, nothing was created: an existing link belongs to another attachment.
        let (device, ifname, mac, inner) =
            (host.clone(), attachment.ifname.clone(), net.lease.mac.bytes(), netns.clone());
        let alias = Label::of(attachment).and_then(|label| label.print());
        let add = async move |links: Links| {
            links.add_veth(&device, &inner, &ifname, mac, mtu).await?;
            if let Some(alias) = alias
                && let Err(error) = links.set_alias(&device, &alias).await
            {
                links.delete(&device).await?;
                return Err(error);
            }
            Ok(())
        };
        let start = std::time::Instant::now();
        let made = {
            let _turn = self.making.lock().await;
            links::on_a_thread("create the pod's link", add).await
        };
        made.map_err(error::plumbing)?;
        tracing::debug!(host, after = ?start.elapsed(), "link created");
        match self.connect(attachment, &netns, &net, routes_mtu, (&host, pending), deadline).await {
            Ok(routes) => Ok(attached(host, &net, routes, mtu)),
            Err(failure) => {
                if let Err(undo) = self.remove(attachment).await {
                    tracing::warn!(container = attachment.container_id, error = %undo, "failed ADD not undone");
                }
                Err(failure)
            }
        }
    }

    /// Makes the port of a container that is attached as ADD made it, if Open vSwitch has lost it, or if somebody has changed
    /// its row. Waits until the pod's addresses are known. Returns false if there was nothing to do, or if a later container
    /// of the pod has the port.
    pub async fn restore(&self, attachment: &Attachment) -> Result<bool, CniError> {
        let host = host_ifname(&attachment.container_id);
        let deadline = Instant::now() + self.patience;
        timeout_at(deadline, self.ovs.bridge()).await.map_err(|_| error::try_again("bridge br-int is not there"))?;
        let (container, pod) = (&attachment.container_id, pod_key(attachment));
        if self.links.find(&host).await.map_err(error::plumbing)?.is_none() {
            return Ok(false);
        }
        let lost = !self.ovs.has_device(&host);
        if lost && self.ovs.has_port(&pod) {
            return Ok(false);
        }
        let net = self.allocation(attachment, deadline).await?;
        let port = self.port(attachment, &net, &host);
        if lost {
            tracing::warn!(container, pod, "Open vSwitch has lost the port of a running pod: adding it again");
            self.ovs.plug(port, self.ovs.pending_port()).await.map_err(error::ovs)?;
        } else {
            let identified = self.ovs.read(|replica| port.is_identified_in(replica));
            if !self.ovs.identify(port).await.map_err(error::ovs)? {
                return Ok(false);
            }
            if identified {
                tracing::info!(container, pod, "the tunnels of a running pod go by another network of the node");
                return Ok(true);
            }
            tracing::warn!(container, pod, "the port of a running pod had other external_ids: they are back");
        }
        self.metrics.restored();
        self.restored.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// Returns the port that an attached container should have. `None` while the pod's addresses are not known.
    pub fn port_of(&self, attachment: &Attachment) -> Option<PodPort> {
        let net = self.look(attachment, &pod_key(attachment)).ok()?;
        Some(self.port(attachment, &net, &host_ifname(&attachment.container_id)))
    }

    /// Detaches a container. Returns false if this interface of it was not attached. Does not need the namespace.
    pub async fn del(&self, attachment: &Attachment) -> Result<bool, CniError> {
        cni_wire::ident::container_id(&attachment.container_id)?;
        let known = match self.interface_of_port(attachment) {
            Some(known) => Some(known),
            None => self.interface_of_link(attachment).await?,
        };
        if known.is_some_and(|known| is_other(&known, attachment)) { Ok(false) } else { self.remove(attachment).await }
    }

    /// The name of the container's interface, according to its port.
    fn interface_of_port(&self, attachment: &Attachment) -> Option<String> {
        self.ovs.read(|replica| {
            let port = Interface::find(replica, &host_ifname(&attachment.container_id))?;
            let same = port.external_id("container_id") == Some(&attachment.container_id);
            port.external_id("ifname").filter(|_| same).map(str::to_owned)
        })
    }

    /// The name of the container's interface, according to the label of its host end.
    async fn interface_of_link(&self, attachment: &Attachment) -> Result<Option<String>, CniError> {
        let host = host_ifname(&attachment.container_id);
        let link = self.links.find(&host).await.map_err(error::plumbing)?;
        let label = link.and_then(|link| Label::parse(&link.alias));
        Ok(label.filter(|label| label.container_id == attachment.container_id).map(|label| label.ifname))
    }

    /// Removes the port first and then the device, so that ovs-vswitchd never has a port without its device. Deletes the
    /// device even if Open vSwitch is away: the next DEL or the next start removes what is left of the port.
    async fn remove(&self, attachment: &Attachment) -> Result<bool, CniError> {
        let container_id = &attachment.container_id;
        let host = host_ifname(container_id);
        let unplug = async {
            // Without a live session, the replica does not show which ports exist.
            let _ = self.ovs.connected().wait_for(|connected| *connected).await;
            self.ovs.unplug(container_id, &host).await.map_err(error::ovs)
        };
        let unplugged = tokio::time::timeout(self.patience.min(UNPLUG), unplug)
            .await
            .unwrap_or_else(|_| Err(error::try_again("Open vSwitch is away")));
        let delete = async move |links: Links| links.delete(&host).await;
        let deleted = links::on_a_thread("delete the pod's link", delete).await.map_err(error::plumbing)?;
        unplugged.map(|ports| deleted || !ports.is_empty())
    }

    /// Connects both ends of a new veth pair: configures the inner one, and adds the outer one to the bridge. Returns the
    /// routes of the inner one.
    async fn connect(
        &self,
        attachment: &Attachment,
        netns: &Netns,
        net: &Allocation,
        routes_mtu: Option<u32>,
        (host, pending): (&str, PendingPort),
        deadline: Instant,
    ) -> Result<Vec<PodRoute>, CniError> {
        let wanted = inside::Wanted {
            ifname: attachment.ifname.clone(),
            addresses: net.addresses().map(|(address, _)| address).collect(),
            routes: self.routes(attachment, net),
            routes_mtu,
            checksum: !self.ovs.userspace(),
        };
        let port = self.port(attachment, net, host);
        let start = std::time::Instant::now();
        let outside = async {
            for left in self.ovs.plug(port, pending).await.map_err(error::ovs)? {
                tracing::info!(device = left, pod = pod_key(attachment), "deleting the device of an earlier container");
                let delete = async move |links: Links| links.delete(&left).await;
                links::on_a_thread("delete an earlier container's link", delete).await.map_err(error::plumbing)?;
            }
            tracing::debug!(host, after = ?start.elapsed(), "port written");
            self.ovs.installed(host).await.map_err(error::ovs)?;
            tracing::debug!(host, after = ?start.elapsed(), "port connected");
            Ok(())
        };
        let outside = async {
            let failed = |why: String| Err(error::try_again(&format!("port {host} is not connected")).details(why));
            tokio::select! {
                result = timeout_at(deadline, outside) => result.unwrap_or_else(|_| failed(self.ovs.explain(host))),
                why = self.outdated(attachment, net) => failed(why),
            }
        };
        let inside = async {
            let result = wanted.apply(netns).await;
            tracing::debug!(host, after = ?start.elapsed(), "inside configured");
            result
        };
        let (inside, outside) = tokio::join!(inside, outside);
        self.metrics.waited_for_flows(start);
        inside.and(outside)?;
        self.announce(host.to_owned(), net);
        Ok(wanted.routes)
    }

    /// The default routes by the gateways of the subnet, and the routes of the pod's annotation. A default route of the
    /// annotation takes the place of the subnet's. Routes that are not readable are left out; the controller tells of them.
    fn routes(&self, attachment: &Attachment, net: &Allocation) -> Vec<PodRoute> {
        let pods = self.pods.borrow();
        let pod = pods.objects.get(&pod_key(attachment));
        let own = pod.and_then(|pod| pod.routes.as_deref().ok()).unwrap_or_default();
        let is_replaced =
            |gateway: IpAddr| own.iter().any(|own| own.is_default() && own.via.is_ipv4() == gateway.is_ipv4());
        let gateways = net.addresses().map(|(_, gateway)| gateway).filter(|gateway| !is_replaced(*gateway));
        gateways.map(PodRoute::default_by).chain(own.iter().copied()).collect()
    }

    fn port(&self, attachment: &Attachment, net: &Allocation, host: &str) -> PodPort {
        let mut about = BTreeMap::from([
            ("pod_name", attachment.pod_name.clone()),
            ("pod_namespace", attachment.pod_namespace.clone()),
            ("ifname", attachment.ifname.clone()),
            ("ip", net.lease.ips.to_string()),
            ("attached-mac", net.lease.mac.to_string()),
        ]);
        about.extend(attachment.netns.clone().map(|path| ("pod_netns", path)));
        about.extend(attachment.pod_uid.clone().map(|uid| ("pod_uid", uid)));
        let iface_id = pod_key(attachment);
        PodPort {
            device: host.to_owned(),
            container_id: attachment.container_id.clone(),
            mirrored: self.mirrored.is(&iface_id, attachment.pod_uid.as_deref()) == Some(true),
            encap: match &net.subnet.node_network {
                None => Encap::Interface,
                Some(name) => self.known_network(name).map_or(Encap::AsItIs, |network| Encap::Network(network.address)),
            },
            iface_id,
            about,
        }
    }

    /// Announces the pod's MAC to its neighbours, which works only after its flows are installed. The ADD does not wait for
    /// it: the pod can communicate already, and neighbours that remember another MAC notice later by themselves.
    fn announce(&self, device: String, net: &Allocation) {
        let (ovs, mac, ips) = (self.ovs.clone(), net.lease.mac, net.lease.ips);
        tokio::spawn(async move {
            if let Err(error) = ovs.announce(&device, mac, &ips).await {
                tracing::warn!(device, %mac, %ips, %error, "the pod's MAC was not announced");
            }
        });
    }
}

/// Returns the name of the pod's port, of its IP object, and of the pod in [`Seen`].
fn pod_key(attachment: &Attachment) -> String {
    api::pod_port(&attachment.pod_name, &attachment.pod_namespace)
}

fn attached(host: String, net: &Allocation, routes: Vec<PodRoute>, mtu: u32) -> Attached {
    let ips = net.addresses().map(|(address, gateway)| Address { address: address.to_string(), gateway }).collect();
    let route = |PodRoute { to, via }: PodRoute| cni_wire::result::Route { dst: to.to_string(), gw: Some(via) };
    let routes = routes.into_iter().map(route).collect();
    Attached { host_ifname: host, mac: net.lease.mac.to_string(), mtu, ips, routes }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_end_has_kube_ovns_name() {
        assert_eq!(super::host_ifname("9688b4ab4bec4827ff6b"), "9688b4ab4bec_h");
        assert_eq!(super::host_ifname("ab"), "ab_h");
    }
}
