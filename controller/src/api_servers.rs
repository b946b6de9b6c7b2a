//! The addresses of the API servers, from the `EndpointSlice` objects of the Service `default/kubernetes`. A subnet
//! that contains one of them would cut the cluster off from the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::cluster::Event;

/// Watches until the owner drops its receiver.
pub async fn run(client: Client, owner: mpsc::Sender<Event>) {
    let config = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
    let events = watcher(Api::<EndpointSlice>::namespaced(client, "default"), config).backoff(kit::kubernetes::pause());
    let mut events = std::pin::pin!(events);
    let mut slices: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let (mut known, mut listed) = (None, false);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                slices.clear();
                listed = false;
            }
            Ok(watcher::Event::InitApply(slice) | watcher::Event::Apply(slice)) => {
                slices.insert(name(&slice), addresses(&slice));
            }
            Ok(watcher::Event::Delete(slice)) => drop(slices.remove(&name(&slice))),
            Ok(watcher::Event::InitDone) => listed = true,
            Err(error) => {
                tracing::warn!(kind = "EndpointSlice", %error, "the watch broke and is resumed");
                // Where they may not be listed, nothing waits for them.
                listed |= known.is_none() && is_forbidden(&error);
            }
        }
        let all: BTreeSet<IpAddr> = slices.values().flatten().copied().collect();
        // A list in progress is incomplete.
        if listed && known.as_ref() != Some(&all) {
            known = Some(all.clone());
            if owner.send(Event::ApiServers(all)).await.is_err() {
                return;
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if matches!(status.code, 403 | 404))
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}
