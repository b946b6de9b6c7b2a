//! The limits that a pod has from its namespace and its subnet, for CHECK.
//!
//! The controller puts them in force. The agent needs them only to compare, so it asks the API server when CHECK is called.

use std::time::Duration;

use api::annotations::{Limit, LimitWant, Limits};
use api::{NamespaceView, Subnet};
use kube::api::GetParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads the defaults.
#[derive(Clone)]
pub struct Defaults(Option<Client>);

impl std::fmt::Debug for Defaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Defaults")
    }
}

impl Defaults {
    /// Defaults that this API server has.
    pub fn of(client: Client) -> Self {
        Self(Some(client))
    }

    /// No defaults, for tests without an API server.
    #[doc(hidden)]
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns the limits into a pod and out of it, as far as they are known. `own` is what the pod's annotations say.
    pub(super) async fn limits(&self, own: [LimitWant; 2], namespace: &str, subnet: Option<&str>) -> Vec<Limit> {
        let mut said = vec![own];
        if own.contains(&LimitWant::Unset)
            && let Some(client) = &self.0
        {
            let read = tokio::time::timeout(PATIENCE, read(client, namespace, subnet)).await;
            let read = read.map_err(|late| late.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
            said.extend(read.unwrap_or_else(|error| {
                tracing::warn!(namespace, error, "CHECK does not compare the limits that a pod has from others");
                vec![[LimitWant::Unreadable; 2]]
            }));
        }
        nearest(&said)
    }
}

/// What the annotations of the namespace and of the subnet say.
async fn read(client: &Client, namespace: &str, subnet: Option<&str>) -> kube::Result<Vec<[LimitWant; 2]>> {
    // What the API server has in memory is new enough.
    let params = GetParams::any();
    let namespaces = Api::<NamespaceView>::all(client.clone());
    let mut said = vec![wanted(&namespaces.get_metadata_with(namespace, &params).await?)];
    if let Some(subnet) = subnet {
        said.push(wanted(&Api::<Subnet>::all(client.clone()).get_metadata_with(subnet, &params).await?));
    }
    Ok(said)
}

fn wanted<K>(object: &PartialObjectMeta<K>) -> [LimitWant; 2] {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let limits = Limits::of(String::new(), &annotations);
    [limits.ingress, limits.egress]
}

/// The first of these that says something counts, for each direction. What cannot be read leaves an earlier limit, which nobody
/// knows here.
fn nearest(said: &[[LimitWant; 2]]) -> Vec<Limit> {
    let first = |direction: usize| said.iter().map(|want| want[direction]).find(|want| *want != LimitWant::Unset);
    let limit = |want| if let Some(LimitWant::Limit(limit)) = want { Some(limit) } else { None };
    [0, 1].into_iter().filter_map(|direction| limit(first(direction))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_that_says_something_counts() {
        use LimitWant::{Unlimited, Unreadable, Unset};
        let limit = |rate| Limit { rate, burst: rate };
        let wants = |rate| LimitWant::Limit(limit(rate));
        for (own, namespace, subnet, expected) in [
            ([Unset; 2], [Unset; 2], [Unset; 2], vec![]),
            ([Unset, wants(1)], [wants(2), wants(3)], [wants(4); 2], vec![limit(2), limit(1)]),
            ([Unset; 2], [Unlimited, Unset], [wants(4), wants(5)], vec![limit(5)]),
            ([Unset; 2], [Unreadable, Unset], [wants(4), Unlimited], vec![]),
        ] {
            assert_eq!(nearest(&[own, namespace, subnet]), expected);
        }
    }
}
