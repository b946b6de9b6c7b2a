//! The addresses of the API servers, from the `EndpointSlice` objects of the Service `default/kubernetes`. A subnet
//! that contains one of them would cut the cluster off from the API server.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kit::kubernetes::{Lister, Seen};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;

use crate::cluster::Event;

/// Watches until the owner drops its receiver.
pub async fn run(client: Client, owner: mpsc::Sender<Event>) {
    let config = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
    let events = watcher(Api::<EndpointSlice>::namespaced(client, "default"), config).backoff(kit::kubernetes::pause());
    let mut events = std::pin::pin!(events);
    let (mut lister, mut slices) = (Lister::default(), Seen::default());
    let mut known = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => drop(lister.apply(&mut slices, event, |slice| Some((slice.name_any(), addresses(&slice))))),
            Err(error) => {
                tracing::warn!(kind = "EndpointSlice", %error, "the watch broke and is resumed");
                // Where they may not be listed, nothing waits for them.
                slices.synced |= is_forbidden(&error);
            }
        }
        let all: BTreeSet<IpAddr> = slices.objects.values().flatten().copied().collect();
        if slices.synced && known.as_ref() != Some(&all) {
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

fn addresses(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}
