//! By which network of the node the tunnels of each subnet go. A change concerns ports that exist.

use std::collections::BTreeMap;

use api::EffectiveSubnet;
use tokio::sync::watch;

use crate::attach::Attacher;
use crate::seen::Seen;
use crate::tunnel::{Network, Networks};

pub(super) struct Tunnels {
    subnets: watch::Receiver<Seen<EffectiveSubnet>>,
    networks: watch::Receiver<Option<Networks>>,
    /// The networks of the subnets that name one.
    now: BTreeMap<String, Option<Network>>,
}

impl Tunnels {
    pub(super) fn of(attacher: &Attacher) -> Self {
        let (subnets, networks) = (attacher.subnets.clone(), attacher.networks.clone());
        let mut tunnels = Self { subnets, networks, now: BTreeMap::new() };
        tunnels.now = tunnels.read();
        tunnels
    }

    /// Waits until the tunnels of a subnet go by another network.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::select! {
                Ok(()) = self.subnets.changed() => {}
                Ok(()) = self.networks.changed() => {}
                else => std::future::pending().await,
            }
            let now = self.read();
            if std::mem::replace(&mut self.now, now) != self.now {
                return;
            }
        }
    }

    fn read(&mut self) -> BTreeMap<String, Option<Network>> {
        let (subnets, networks) = (self.subnets.borrow_and_update(), self.networks.borrow_and_update());
        let network = |name: &String| networks.as_ref().and_then(|all| all.get(name)?.as_ref().ok().copied());
        let named = subnets.objects.values();
        named.filter_map(|subnet| Some((subnet.name.clone(), network(subnet.node_network.as_ref()?)))).collect()
    }
}
