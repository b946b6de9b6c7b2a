//! What an ADD waits for in the cluster, and what makes it end early.

use api::EffectiveSubnet;
use api::annotations::NODE_NETWORKS;
use cni_wire::rpc::Attachment;
use cni_wire::{CniError, Code};
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::{Attacher, error, pod_key};
use crate::allocation::{self, Allocation, Missing};
use crate::seen::{Leases, Pod, Seen};
use crate::tunnel::{Mtu, Network, Networks};

/// Why a pod has no network yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsettled {
    #[error("the pods of this node are not listed yet")]
    NotListed,
    #[error("no such pod on this node")]
    NoPod,
    #[error("a pod of this name with another uid is still there")]
    OtherPod,
    #[error("the pod was deleted")]
    Deleted,
    #[error("{0}{events}", events = see_events(.0))]
    Missing(Missing),
}

fn see_events(missing: &Missing) -> &'static str {
    match missing {
        Missing::NoAddress | Missing::OtherHolder(_) => ": see the pod's events",
        _ => "",
    }
}

impl Attacher {
    /// Waits for the addresses that the controller gives to the pod, and for their subnet to be in force.
    pub(super) async fn allocation(&self, attachment: &Attachment, deadline: Instant) -> Result<Allocation, CniError> {
        let name = pod_key(attachment);
        let (mut pods, mut leases, mut subnets) = (self.pods.clone(), self.leases.clone(), self.subnets.clone());
        let mut met = false;
        let settled = async {
            loop {
                // What changes from here on wakes the wait below.
                let _ = (pods.borrow_and_update(), leases.borrow_and_update(), subnets.borrow_and_update());
                match self.look(attachment, &name) {
                    Ok(allocation) => return Ok(allocation),
                    // The pod was there, so waiting for it makes no sense.
                    Err(Unsettled::NoPod | Unsettled::OtherPod) if met => return Err(Unsettled::Deleted),
                    // Its sandbox is not started any more, and its removal waits for this.
                    Err(Unsettled::Missing(_)) if self.is_going(attachment, &name) => return Err(Unsettled::Deleted),
                    Err(Unsettled::Missing(_)) => met = true,
                    Err(_) => {}
                }
                tokio::select! {
                    Ok(()) = pods.changed() => {}
                    Ok(()) = leases.changed() => {}
                    Ok(()) = subnets.changed() => {}
                    else => std::future::pending().await,
                }
            }
        };
        // At the deadline, the state of that moment counts.
        let result = timeout_at(deadline, settled).await.unwrap_or_else(|_| self.look(attachment, &name));
        result.map_err(|why| match why {
            Unsettled::Missing(Missing::Unreadable(wrong)) => {
                CniError::new(Code::ALLOCATION, "the pod's IP object is not readable").details(wrong)
            }
            why => error::try_again(&format!("pod {name} has no network")).details(why),
        })
    }

    fn is_going(&self, attachment: &Attachment, name: &str) -> bool {
        Pod::find(&self.pods.borrow(), name, attachment.pod_uid.as_deref()).is_some_and(|pod| pod.going)
    }

    /// Returns the pod's addresses as far as they are known now.
    pub(super) fn look(&self, attachment: &Attachment, name: &str) -> Result<Allocation, Unsettled> {
        let uid = {
            let pods = self.pods.borrow();
            match (Pod::find(&pods, name, attachment.pod_uid.as_deref()), pods.objects.contains_key(name)) {
                _ if !pods.synced => return Err(Unsettled::NotListed),
                (Some(pod), _) => pod.uid.clone(),
                (None, true) => return Err(Unsettled::OtherPod),
                (None, false) => return Err(Unsettled::NoPod),
            }
        };
        allocation::find(&self.leases.borrow(), &self.subnets.borrow(), name, &uid).map_err(Unsettled::Missing)
    }

    /// Waits until the pod is gone, or has other addresses than these: an ADD for it must not go on. Returns the reason.
    pub(super) async fn outdated(&self, attachment: &Attachment, allocation: &Allocation) -> String {
        let name = pod_key(attachment);
        let (mut pods, mut leases) = (self.pods.clone(), self.leases.clone());
        let gone = |seen: &Seen<Pod>| seen.synced && Pod::find(seen, &name, attachment.pod_uid.as_deref()).is_none();
        let changed = |seen: &Leases| allocation::has_changed(seen, &name, &allocation.lease);
        tokio::select! {
            true = pods.wait_for(gone).map(|found| found.is_ok()) => "the pod was deleted".to_owned(),
            true = leases.wait_for(changed).map(|found| found.is_ok()) => format!("the pod's addresses are not {} any more", allocation.lease.ips),
            else => std::future::pending().await,
        }
    }

    /// Waits for the network of the node that tunnels of the pod's subnet use. `None` if it is that of the tunnel interface.
    /// Ends early if the subnet names another network, or the pod is gone.
    pub(super) async fn network(
        &self,
        attachment: &Attachment,
        net: &Allocation,
        deadline: Instant,
    ) -> Result<Option<Network>, CniError> {
        let (subnet, Some(name)) = (&net.subnet.name, &net.subnet.node_network) else { return Ok(None) };
        let (mut networks, mut subnets) = (self.networks.clone(), self.subnets.clone());
        let is_there =
            |known: &Option<Networks>| known.as_ref().is_some_and(|all| matches!(all.get(name), Some(Ok(_))));
        let named = |seen: &Seen<EffectiveSubnet>| {
            seen.objects.get(subnet).is_none_or(|now| now.node_network.as_ref() != Some(name))
        };
        let failed = |why: String| error::try_again(&format!("subnet {subnet}: spec.nodeNetwork {name}")).details(why);
        let early = async {
            tokio::select! {
                _ = networks.wait_for(is_there) => None,
                _ = subnets.wait_for(named) => Some("the subnet names another network now".to_owned()),
                why = self.outdated(attachment, net) => Some(why),
            }
        };
        match timeout_at(deadline, early).await {
            Ok(Some(why)) => Err(failed(why)),
            Ok(None) | Err(_) => self.known_network(name).map(Some).map_err(failed),
        }
    }

    /// Returns a network of the node, or why it is not there.
    pub(super) fn known_network(&self, name: &str) -> Result<Network, String> {
        match self.networks.borrow().as_ref().map(|all| all.get(name).cloned()) {
            Some(Some(network)) => network,
            Some(None) => Err(format!("the node has no network of this name: see its annotation {NODE_NETWORKS}")),
            None => Err("the networks of the node are not known".to_owned()),
        }
    }

    /// Waits for the firewall rules: connections that begin without them would go on without them.
    pub(super) async fn firewall(&self, deadline: Instant) -> Result<(), CniError> {
        let mut rules = self.rules.clone();
        let there = timeout_at(deadline, rules.wait_for(Result::is_ok)).await.is_ok_and(|there| there.is_ok());
        let why = || rules.borrow().clone().err().unwrap_or_default();
        if there { Ok(()) } else { Err(error::try_again("the firewall rules are not in place").details(why())) }
    }

    /// Waits for the MTU of the node's tunnels.
    pub(super) async fn node_mtu(&self, deadline: Instant) -> Result<Mtu, CniError> {
        let mut mtu = self.mtu.clone();
        let known = timeout_at(deadline, mtu.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(|known| known.ok().and_then(|known| *known));
        known.ok_or_else(|| {
            error::try_again("the node's MTU is not known: its tunnel interface is not there, or --mtu is wrong")
        })
    }
}

/// Returns the pod's MTU: that of the subnet as far as tunnels carry it, or that of the node.
pub(super) fn pod_mtu(subnet: &EffectiveSubnet, node: Mtu) -> u32 {
    let (wanted, warning) = fitting_mtu(subnet, node);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    wanted
}

fn fitting_mtu(subnet: &EffectiveSubnet, node: Mtu) -> (u32, Option<String>) {
    let (name, most) = (&subnet.name, node.most);
    let warning = subnet.mtu.filter(|mtu| *mtu > most).map(|mtu| {
        format!("subnet {name}: spec.mtu {mtu}: this node's tunnels leave {most} at most, so its pods get that")
    });
    (node.of(subnet.mtu), warning)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_mtu_that_tunnels_do_not_carry_is_made_smaller() {
        let subnet = |mtu| EffectiveSubnet {
            name: "ovn-default".to_owned(),
            cidrs: "10.16.0.0/16".parse().unwrap(),
            gateway: "10.16.0.1".parse().unwrap(),
            nat_outgoing: true,
            nat_rules: Vec::new(),
            nat_sources: Vec::new(),
            mtu,
            private: false,
            node_network: None,
            nodes: BTreeSet::new(),
        };
        let node = Mtu { pods: 1400, most: 1442 };
        assert_eq!(fitting_mtu(&subnet(None), node), (1400, None));
        assert_eq!(fitting_mtu(&subnet(Some(1442)), node), (1442, None));
        let (mtu, warning) = fitting_mtu(&subnet(Some(1443)), node);
        let expected =
            "subnet ovn-default: spec.mtu 1443: this node's tunnels leave 1442 at most, so its pods get that";
        assert_eq!((mtu, warning.as_deref()), (1442, Some(expected)));
    }

    #[test]
    fn who_has_no_address_is_told_to_look_at_the_events() {
        let said = |missing| Unsettled::Missing(missing).to_string();
        assert_eq!(said(Missing::NoAddress), "no address yet: see the pod's events");
        assert_eq!(said(Missing::NotInForce("net".to_owned())), "subnet net is not in force yet");
    }
}
