//! The watch of Subnets, and of the IP objects of those that were deleted by force.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use api::annotations::SUBNET_LABEL;
use api::{EffectiveSubnet, FieldError, Ip, SubnetView};
use futures::StreamExt;
use kit::kubernetes::Lister;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::in_force::{InForce, Object};
use super::{Seen, kept, publish};
use crate::ovs::Ovs;

/// Starts the watch. Readers are woken when something else is in force, and by no other change of a Subnet.
pub(super) fn keep(client: Client, ovs: Ovs) -> watch::Receiver<Seen<EffectiveSubnet>> {
    let (sender, receiver) = watch::channel(Seen::default());
    tokio::spawn(async move {
        let api = Api::<DeserializeGuard<SubnetView>>::all(client.clone());
        let mut events = pin!(watcher(api, watcher::Config::default()).backoff(kit::kubernetes::pause()));
        let (mut state, mut listed) = (InForce::default(), BTreeMap::new());
        let mut known = kept::read(&ovs).await;
        let odd = known.take_odd();
        state.restore(known.subnets);
        let (record, recorded) = watch::channel(state.vanished());
        tokio::spawn(kept::write(ovs, odd, recorded));
        let mut unused = Unused { client, tasks: JoinSet::new(), running: BTreeMap::new() };
        loop {
            let (mut changed, mut synced) = (false, false);
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(object))) => changed = state.applied(&object.name_any(), read(&object)),
                    Some(Ok(watcher::Event::Delete(object))) => changed = state.deleted(&object.name_any(), read(&object)),
                    Some(Ok(watcher::Event::Init)) => listed.clear(),
                    Some(Ok(watcher::Event::InitApply(object))) => {
                        listed.insert(object.name_any(), read(&object));
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        changed = state.listed(std::mem::take(&mut listed));
                        synced = true;
                    }
                    Some(Err(error)) => tracing::warn!(what = "subnets", %error, "watch interrupted; going on"),
                    None => return,
                },
                Some(subnet) = unused.next() => {
                    tracing::info!(subnet, "a Subnet that was deleted by force is dropped: no IP object names it any more");
                    changed = state.unused(&subnet);
                }
            }
            let vanished = state.vanished();
            unused.watch(&vanished.keys().map(String::as_str).collect());
            publish(&record, vanished);
            if changed || synced {
                let now = Seen { synced: synced || sender.borrow().synced, objects: state.subnets() };
                publish(&sender, now);
            }
        }
    });
    receiver
}

fn read(object: &DeserializeGuard<SubnetView>) -> Object {
    let uid = object.uid().unwrap_or_default();
    let status = match &object.0 {
        Ok(subnet) => subnet.in_force(),
        Err(invalid) => Err(FieldError::new(format!("subnet {}", object.name_any()), "status", invalid)),
    };
    if let Err(error) = &status {
        tracing::warn!(%error, "the status of a Subnet is not readable: what was in force of it stays");
    }
    Object { uid, status }
}

/// The watches of IP objects: one for each subnet that was deleted by force.
struct Unused {
    client: Client,
    tasks: JoinSet<String>,
    running: BTreeMap<String, AbortHandle>,
}

impl Unused {
    /// Watches the IP objects of exactly these subnets.
    fn watch(&mut self, subnets: &BTreeSet<&str>) {
        self.running.retain(|subnet, task| {
            let wanted = subnets.contains(subnet.as_str());
            if !wanted {
                task.abort();
            }
            wanted
        });
        for subnet in subnets.iter().filter(|subnet| !self.running.contains_key(**subnet)).collect::<Vec<_>>() {
            tracing::warn!(
                subnet,
                "the Subnet was deleted by force: what was in force of it stays as long as an IP object names it"
            );
            let task = self.tasks.spawn(until_unused(self.client.clone(), (*subnet).to_owned()));
            self.running.insert((*subnet).to_owned(), task);
        }
    }

    /// Returns the next subnet that no IP object names, or `None` when there is no watch.
    async fn next(&mut self) -> Option<String> {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            // An aborted watch, or one that ended before it was aborted, says nothing about a later one.
            if let Ok((id, subnet)) = ended
                && self.running.get(&subnet).is_some_and(|task| task.id() == id)
            {
                return Some(subnet);
            }
        }
        None
    }
}

/// Returns the subnet's name when no IP object names it.
async fn until_unused(client: Client, subnet: String) -> String {
    let label = api::label_value(&subnet).into_owned();
    let config = watcher::Config::default().labels(&format!("{SUBNET_LABEL}={label}"));
    let api = Api::<PartialObjectMeta<Ip>>::all(client);
    let mut events = pin!(watcher(api, config).backoff(kit::kubernetes::pause()));
    let (mut lister, mut ips) = (Lister::default(), Seen::default());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                lister.apply(&mut ips, event, |ip| Some((ip.name_any(), ())));
                if ips.synced && ips.objects.is_empty() {
                    return subnet;
                }
            }
            Err(error) => tracing::warn!(what = "ips", subnet, %error, "watch interrupted; going on"),
        }
    }
    std::future::pending().await
}
