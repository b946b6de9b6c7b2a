//! One container's attachment: ADD and DEL.
//!
//! ADD: the pod's allocation (awaited), a veth whose peer is born in the container's namespace, addresses and routes
//! there, a port on the integration bridge at the same time, and then ovn-controller's word that its flows are in place.
//! Promise: each wait ends at the deadline with "try again"; a half-done ADD is undone; DEL of what is not there
//! succeeds.

mod check;
mod error;
mod inside;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Placement;
use cni_wire::rpc::{Address, Attached, Attachment};
use cni_wire::{CniError, Code};
use ipnet::IpNet;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout_at};

use crate::link::{self, Links};
use crate::metrics::Metrics;
use crate::netns::Netns;
use crate::ovs::{Coming, Ovs, PodPort};
use crate::seen::{Pod, Seen};
use crate::tunnel::Mtu;

/// What attaching needs.
#[derive(Clone, Debug)]
pub struct Attacher {
    /// The node's Open vSwitch.
    pub ovs: Ovs,
    /// The node's links.
    pub links: Links,
    /// This node's pods.
    pub pods: watch::Receiver<Seen<Pod>>,
    /// The cluster's subnets, for their MTU.
    pub subnets: watch::Receiver<crate::node_net::Subnets>,
    /// The node's MTU for pods, once it is known.
    pub mtu: watch::Receiver<Option<Mtu>>,
    /// How long an ADD may take in all.
    pub patience: Duration,
    /// Where waits are counted.
    pub metrics: Metrics,
    /// Held while a link is made: the kernel makes one at a time, and several that wait for it there are in the way of the one.
    pub making: Arc<Mutex<()>>,
}

/// How long taking a port away may take.
pub const UNPLUG: Duration = Duration::from_secs(10);

/// The name of the host end: kube-ovn's, the first 12 bytes of the container's id and `_h`.
pub fn host_ifname(container_id: &str) -> String {
    let end = container_id.char_indices().nth(12).map_or(container_id.len(), |(at, _)| at);
    format!("{}_h", &container_id[..end])
}

impl Attacher {
    /// Plugs a container in.
    pub async fn add(&self, attachment: &Attachment) -> Result<Attached, CniError> {
        attachment.validate()?;
        let deadline = Instant::now() + self.patience;
        let path = attachment.netns.as_deref().unwrap_or_default();
        let netns = Arc::new(Netns::open(path).map_err(error::environment)?);
        let asked = std::time::Instant::now();
        let net = self.allocation(attachment, deadline).await;
        self.metrics.waited_for_address(asked);
        let net = net?;
        let mtu = self.mtu(&net, deadline).await?;
        timeout_at(deadline, self.ovs.bridge()).await.map_err(|_| error::away("bridge br-int is not there"))?;

        let host = host_ifname(&attachment.container_id);
        let coming = self.ovs.coming();
        // When this fails nothing was made: what is there belongs to an attachment that stands.
        let (device, ifname, mac, inner) = (host.clone(), attachment.ifname.clone(), net.mac.bytes(), netns.clone());
        let add = async move |links: Links| links.add_veth(&device, &inner, &ifname, mac, mtu).await;
        let start = std::time::Instant::now();
        let made = {
            let _turn = self.making.lock().await;
            link::aside("make the pod's link", add).await
        };
        made.map_err(error::plumbing)?;
        tracing::debug!(host, after = ?start.elapsed(), "link made");
        match self.connect(attachment, &netns, &net, (&host, coming), deadline).await {
            Ok(()) => Ok(attached(host, &net, mtu)),
            Err(failure) => {
                if let Err(undo) = self.remove(&attachment.container_id).await {
                    tracing::warn!(container = attachment.container_id, error = %undo, "half-done ADD not undone");
                }
                Err(failure)
            }
        }
    }

    /// Takes a container's attachment away; whether there was one. The namespace is not needed.
    pub async fn del(&self, attachment: &Attachment) -> Result<bool, CniError> {
        cni_wire::ident::container_id(&attachment.container_id)?;
        self.remove(&attachment.container_id).await
    }

    /// Port first, then the device, so that ovs-vswitchd never holds a port whose device is gone. The device goes even when
    /// Open vSwitch is away: what is left of the port is then cleared by the next DEL or at the next start.
    async fn remove(&self, container_id: &str) -> Result<bool, CniError> {
        let host = host_ifname(container_id);
        let unplug = async {
            // Before the session is live the replica says nothing about what is there.
            let _ = self.ovs.connected().wait_for(|connected| *connected).await;
            self.ovs.unplug(container_id, &host).await.map_err(error::ovs)
        };
        let unplugged = tokio::time::timeout(self.patience.min(UNPLUG), unplug)
            .await
            .unwrap_or_else(|_| Err(error::away("Open vSwitch is away")));
        let delete = async move |links: Links| links.delete(&host).await;
        let deleted = link::aside("take the pod's link away", delete).await.map_err(error::plumbing)?;
        unplugged.map(|ports| deleted || !ports.is_empty())
    }

    /// Waits for what the controller gave the pod.
    async fn allocation(&self, attachment: &Attachment, deadline: Instant) -> Result<Placement, CniError> {
        let name = pod_key(attachment);
        let mut pods = self.pods.clone();
        let mut met = false;
        let settled = |seen: &Seen<Pod>| match find(seen, &name, attachment) {
            // Once seen and then gone: there is nothing to wait for.
            None => met,
            Some(pod) => {
                met = true;
                !matches!(pod.net, Ok(None))
            }
        };
        let found = match timeout_at(deadline, pods.wait_for(settled)).await {
            Ok(Ok(seen)) => find(&seen, &name, attachment).map(|pod| pod.net.clone()),
            _ => None,
        };
        match found {
            Some(Ok(Some(net))) => Ok(net),
            Some(Err(wrong)) => {
                Err(CniError::new(Code::ALLOCATION, "the pod's annotations are not usable").details(wrong))
            }
            _ => {
                let seen = self.pods.borrow();
                let why = match seen.objects.get(&name) {
                    _ if !seen.synced => "the pods of this node are not listed yet",
                    None if met => "the pod was deleted",
                    None => "no such pod on this node",
                    Some(_) if find(&seen, &name, attachment).is_none() => {
                        "a pod of this name with another uid is still there"
                    }
                    Some(_) => "no address yet: see the pod's events",
                };
                Err(error::away(&format!("pod {name} has no network")).details(why))
            }
        }
    }

    /// Resolves when the pod is no longer there: an ADD for it need not go on.
    async fn deleted(&self, attachment: &Attachment) {
        let name = pod_key(attachment);
        let mut pods = self.pods.clone();
        if pods.wait_for(|seen| seen.synced && find(seen, &name, attachment).is_none()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The subnet's own MTU, or the node's. One that tunnels lose packets of is refused: the pod would start, and hang later.
    async fn mtu(&self, net: &Placement, deadline: Instant) -> Result<u32, CniError> {
        let mut mtu = self.mtu.clone();
        let Ok(Ok(Some(node))) =
            timeout_at(deadline, mtu.wait_for(Option::is_some)).await.map(|mtu| mtu.map(|mtu| *mtu))
        else {
            return Err(error::away(
                "the node's MTU is not known: its tunnel interface is not there, or --mtu is wrong",
            ));
        };
        let subnets = self.subnets.borrow();
        let own = subnets.objects.get(&net.switch).and_then(|subnet| subnet.as_ref().ok()?.mtu);
        match own {
            Some(mtu) if mtu > node.most => Err(error::mtu(&net.switch, mtu, node.most)),
            own => Ok(own.unwrap_or(node.pods)),
        }
    }

    /// Both ends of a fresh veth: the inside configured, the outside on the bridge and installed.
    async fn connect(
        &self,
        attachment: &Attachment,
        netns: &Netns,
        net: &Placement,
        (host, coming): (&str, Coming),
        deadline: Instant,
    ) -> Result<(), CniError> {
        let wanted = inside::Wanted {
            ifname: attachment.ifname.clone(),
            addresses: net.cidrs.each().filter_map(|(f, cidr)| host_net(*net.ips.get(f)?, cidr.prefix_len())).collect(),
            gateways: net.gateway.iter().copied().collect(),
            checksum: !self.ovs.userspace(),
        };
        let port = pod_port(attachment, net, host);
        let start = std::time::Instant::now();
        let outside = async {
            for left in self.ovs.plug(port, coming).await.map_err(error::ovs)? {
                tracing::info!(device = left, pod = pod_key(attachment), "deleting the device of an earlier container");
                let delete = async move |links: Links| links.delete(&left).await;
                link::aside("take an earlier container's link away", delete).await.map_err(error::plumbing)?;
            }
            tracing::debug!(host, after = ?start.elapsed(), "port written");
            self.ovs.installed(host).await.map_err(error::ovs)?;
            tracing::debug!(host, after = ?start.elapsed(), "port connected");
            Ok(())
        };
        let outside = async {
            let failed = |why: String| Err(error::away(&format!("port {host} is not connected")).details(why));
            tokio::select! {
                result = timeout_at(deadline, outside) => result.unwrap_or_else(|_| failed(self.ovs.explain(host))),
                () = self.deleted(attachment) => failed("the pod was deleted".to_owned()),
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
        Ok(())
    }

    /// Has the pod's neighbours told of its MAC, which is of use only now that its flows are installed. Nobody waits for it:
    /// the pod can talk already, and those who remember another MAC find out by themselves, only later.
    fn announce(&self, device: String, net: &Placement) {
        let (ovs, mac, ips) = (self.ovs.clone(), net.mac, net.ips);
        tokio::spawn(async move {
            if let Err(error) = ovs.announce(&device, mac, &ips).await {
                tracing::warn!(device, %mac, %ips, %error, "the pod's neighbours were not told of its MAC");
            }
        });
    }
}

/// The key of [`Seen`], which is the port's name too.
fn pod_key(attachment: &Attachment) -> String {
    api::pod_port(&attachment.pod_name, &attachment.pod_namespace)
}

/// The pod that the runtime means, if it is there.
fn find<'a>(seen: &'a Seen<Pod>, name: &str, attachment: &Attachment) -> Option<&'a Pod> {
    let ours = |pod: &&Pod| attachment.pod_uid.as_deref().is_none_or(|uid| pod.has_uid(uid));
    seen.objects.get(name).filter(ours)
}

fn pod_port(attachment: &Attachment, net: &Placement, host: &str) -> PodPort {
    let mut about = BTreeMap::from([
        ("pod_name", attachment.pod_name.clone()),
        ("pod_namespace", attachment.pod_namespace.clone()),
        ("pod_netns", attachment.netns.clone().unwrap_or_default()),
        ("ifname", attachment.ifname.clone()),
        ("ip", net.ips.to_string()),
        ("attached-mac", net.mac.to_string()),
    ]);
    about.extend(attachment.pod_uid.clone().map(|uid| ("pod_uid", uid)));
    PodPort {
        device: host.to_owned(),
        container_id: attachment.container_id.clone(),
        iface_id: pod_key(attachment),
        about,
    }
}

fn attached(host: String, net: &Placement, mtu: u32) -> Attached {
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for (family, cidr) in net.cidrs.each() {
        if let (Some(ip), Some(gateway)) = (net.ips.get(family), net.gateway.get(family)) {
            ips.push(Address { address: cidr.with_host(*ip), gateway: *gateway });
            let dst = if ip.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            routes.push(cni_wire::result::Route { dst: dst.to_owned(), gw: Some(*gateway) });
        }
    }
    Attached { host_ifname: host, mac: net.mac.to_string(), mtu, ips, routes }
}

fn host_net(ip: std::net::IpAddr, prefix_len: u8) -> Option<IpNet> {
    IpNet::new(ip, prefix_len).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_end_has_kube_ovns_name() {
        assert_eq!(super::host_ifname("9688b4ab4bec4827ff6b"), "9688b4ab4bec_h");
        assert_eq!(super::host_ifname("ab"), "ab_h");
    }
}
