//! CHECK: whether the attachment of a container is still as ADD left it.
//!
//! The Interface row is the record. CHECK compares the kernel with it, and with the addresses that the runtime knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::annotations::Limit;
use api::{Addresses, Mac};
use cni_wire::rpc::Attachment;
use cni_wire::{CniError, Code};
use ipnet::IpNet;
use links::netns::Netns;
use links::{Link, Links, Route};
use ovn::local::Interface;

use super::{Attacher, error, host_ifname};
use crate::netem;
use crate::seen::Pod;

/// The contents of the row.
struct Record {
    /// Whether the row is of this interface of the container.
    container: bool,
    installed: bool,
    ips: Option<Addresses>,
    mac: Option<Mac>,
}

/// The state of the kernel.
struct Inside {
    link: Option<Link>,
    addresses: BTreeSet<IpNet>,
    routes: BTreeSet<Route>,
}

impl Attacher {
    /// Returns the first difference as error 104. `promised` are the addresses of `prevResult`.
    pub async fn check(&self, attachment: &Attachment, promised: &[IpNet]) -> Result<(), CniError> {
        attachment.validate()?;
        if !*self.ovs.connected().borrow() {
            return Err(error::try_again("Open vSwitch is away"));
        }
        let host = host_ifname(&attachment.container_id);
        let record = self.ovs.read(|replica| {
            let row = Interface::find(replica, &host)?;
            Some(Record {
                container: row.external_id("container_id") == Some(&attachment.container_id)
                    && row.external_id("ifname").is_none_or(|ifname| ifname == attachment.ifname),
                installed: row.ovn_installed(),
                ips: row.external_id("ip").and_then(|ips| ips.parse().ok()),
                mac: row.external_id("attached-mac").and_then(|mac| mac.parse().ok()),
            })
        });
        let Some(record) = record.filter(|record| record.container) else {
            let Attachment { container_id, ifname, .. } = attachment;
            return differs(&format!("container {container_id} has no port for {ifname}"));
        };
        if !record.installed {
            return differs(&format!("port {host} has no flows: {}", self.ovs.explain(&host)));
        }
        match self.links.find(&host).await.map_err(error::plumbing)? {
            None => return differs(&format!("{host} is gone")),
            Some(link) if !link.up => return differs(&format!("{host} is down")),
            Some(_) => {}
        }
        self.check_asked(attachment, &host)?;
        self.check_limits(attachment).await?;
        let netns = Netns::open(attachment.netns.as_deref().unwrap_or_default()).map_err(error::environment)?;
        let inside = look(&netns, &attachment.ifname).await?;
        compare(&attachment.ifname, &record, &inside)?;
        match promised.iter().find(|address| !inside.addresses.contains(address)) {
            Some(missing) => differs(&format!("{} does not have address {missing} of prevResult", attachment.ifname)),
            None => Ok(()),
        }
    }

    /// Compares the port with what the pod's own annotations ask for: the mirror, delay and loss.
    fn check_asked(&self, attachment: &Attachment, host: &str) -> Result<(), CniError> {
        let mirrored = self.ovs.is_mirrored(host);
        let (pod, uid) = (super::pod_key(attachment), attachment.pod_uid.as_deref());
        let wanted = self.mirrored.is(&pod, uid);
        if wanted.is_some_and(|wanted| wanted != mirrored) {
            let is = if mirrored { "in" } else { "not in" };
            return differs(&format!("port {host} is {is} mirror {}", crate::mirror::NAME));
        }
        let Some(asked) = netem::asked(&pod, uid, &self.pods.borrow()) else { return Ok(()) };
        let (asked, now) = (asked.map(netem::settings).unwrap_or_default(), self.ovs.netem(host));
        if asked.iter().map(|(key, value)| (*key, value)).eq(now.iter().map(|(key, value)| (key.as_str(), value))) {
            Ok(())
        } else {
            differs(&format!("port {host} does not have the delay and loss of the pod's annotations"))
        }
    }

    /// Compares the meters of the bridge with the limits of the pod: those of its own annotations, or of its namespace, or of its
    /// subnet. A meter does not say whose it is, so another pod's of the same limit counts as well.
    async fn check_limits(&self, attachment: &Attachment) -> Result<(), CniError> {
        let key = super::pod_key(attachment);
        let own = {
            let pods = self.pods.borrow();
            Pod::find(&pods, &key, attachment.pod_uid.as_deref()).map(|pod| pod.limits)
        };
        let Some(own) = own else { return Ok(()) };
        let subnet =
            self.leases.borrow().objects.get(&key).and_then(|lease| lease.as_ref().ok().map(|l| l.subnet.clone()));
        let asked = self.defaults.limits(own, &attachment.pod_namespace, subnet.as_deref()).await;
        if asked.is_empty() {
            return Ok(());
        }
        let meters = self.ovs.meters().await;
        let meters = meters.map_err(|why| error::try_again("the meters of the bridge").details(why))?;
        match asked.iter().find(|limit| !meters.contains(limit)) {
            Some(Limit { rate, burst }) => {
                differs(&format!("no meter limits to {rate} kbit/s with a burst of {burst} kbit"))
            }
            None => Ok(()),
        }
    }
}

async fn look(netns: &Netns, ifname: &str) -> Result<Inside, CniError> {
    let ifname = ifname.to_owned();
    let look = async move |links: Links| {
        let Some(link) = links.find(&ifname).await? else {
            return Ok(Inside { link: None, addresses: BTreeSet::new(), routes: BTreeSet::new() });
        };
        let (addresses, routes) = (links.addresses(&link).await?, links.routes(&link).await?);
        Ok(Inside { link: Some(link), addresses, routes })
    };
    let result = netns.run(|| links::alone(look)).await.map_err(error::environment)?;
    let result = result.map_err(|e| CniError::new(Code::PLUMBING, "the pod's namespace").details(e))?;
    result.map_err(error::plumbing)
}

fn compare(ifname: &str, record: &Record, inside: &Inside) -> Result<(), CniError> {
    let Some(link) = &inside.link else { return differs(&format!("{ifname} is gone")) };
    if !link.up {
        return differs(&format!("{ifname} is down"));
    }
    if let Some(mac) = record.mac
        && link.mac != mac.bytes()
    {
        return differs(&format!("{ifname} does not have MAC {mac}"));
    }
    let has = |ip: &IpAddr| inside.addresses.iter().any(|net| net.addr() == *ip);
    let leads_out =
        |ip: &IpAddr| inside.routes.iter().any(|r| r.to.prefix_len() == 0 && r.via.is_ipv4() == ip.is_ipv4());
    for ip in record.ips.iter().flat_map(Addresses::iter) {
        if !has(ip) {
            return differs(&format!("{ifname} does not have address {ip}"));
        }
        if !leads_out(ip) {
            return differs(&format!("{ifname} has no default route for {ip}"));
        }
    }
    Ok(())
}

fn differs(what: &str) -> Result<(), CniError> {
    Err(CniError::new(Code::DIFFERS, what))
}
