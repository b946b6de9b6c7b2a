//! The labels of the pods whose servers lead, which the Services `ovn-nb`, `ovn-sb` and `ovn-northd` select.
//!
//! Each member labels its own pod, and a leader takes the label from others: one that was lost with its node cannot do that
//! itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use daemons::member::{self, Member};
use k8s_openapi::api::core::v1::Pod;
use kit::kubernetes::Seen;
use kit::once::Once;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::northd::{NAME, Northd};
use crate::server::Role;

/// The labels, as in kube-ovn: of the leaders of the northbound and the southbound database, and of the active northd.
const LABELS: [&str; 3] = ["ovn-nb-leader", "ovn-sb-leader", "ovn-northd-leader"];

/// The pods of all members.
const PODS: &str = "app=ovn-central";

/// How often northd is asked whether it is active, which it announces nowhere. Also the pause after labels were changed: two
/// members can believe for a moment that they lead.
const ASK: Duration = Duration::from_millis(500);

/// The time limit of a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The roles of a member, or the labels of its pod, in the order of [`LABELS`].
type Roles = [bool; 3];

/// Labels the pods.
#[derive(Debug)]
pub struct Labels {
    api: Api<Pod>,
    /// The name of this pod.
    pod: String,
    pods: watch::Receiver<Seen<Roles>>,
    /// The roles of the servers of the northbound and the southbound database.
    servers: [watch::Receiver<Role>; 2],
    northd: Northd,
    members: watch::Receiver<Vec<Member>>,
}

impl Labels {
    /// Starts the watch of the pods.
    pub fn new(
        client: &Client,
        namespace: &str,
        pod: &str,
        servers: [watch::Receiver<Role>; 2],
        northd: &Northd,
        members: watch::Receiver<Vec<Member>>,
    ) -> Self {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let read = |pod: Pod| Some((pod.name_any(), LABELS.map(|label| pod.labels().contains_key(label))));
        let pods = kit::kubernetes::keep("pods", api.clone(), watcher::Config::default().labels(PODS), read);
        Self { api, pod: pod.to_owned(), pods, servers, northd: northd.clone(), members }
    }

    /// Keeps the labels right for as long as the future runs.
    pub async fn run(mut self) -> Infallible {
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut active, mut said) = (false, Once::default());
        loop {
            let [northbound, southbound] = self.servers.each_mut().map(|server| server.borrow_and_update().leads);
            let wrong = wrong([northbound, southbound, active], &self.pod, &self.pods.borrow_and_update());
            for (pod, labels) in &wrong {
                let patch = json!({"metadata": {"labels": labels}});
                let params = PatchParams::default();
                let patched = tokio::time::timeout(PATIENCE, self.api.patch(pod, &params, &Patch::Merge(&patch))).await;
                let error = match patched {
                    Ok(Ok(_)) => {
                        info!(pod, %labels, "labelled");
                        said.clear();
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("no answer of the API server within {PATIENCE:?}"),
                };
                if said.is_new(&error) {
                    warn!(pod, %labels, error, "not labelled; trying again");
                }
            }
            let [northbound, southbound] = &mut self.servers;
            tokio::select! {
                _ = northbound.changed() => {}
                _ = southbound.changed() => {}
                _ = self.pods.changed(), if wrong.is_empty() => {}
                _ = ask.tick() => active = self.northd_is_active().await,
            }
        }
    }

    async fn northd_is_active(&self) -> bool {
        let running = member::pid(&self.members.borrow(), NAME);
        match running {
            Some(pid) => self.northd.is_active(pid).await,
            None => false,
        }
    }
}

/// Returns the changes of labels, by pod.
fn wrong(roles: Roles, pod: &str, pods: &Seen<Roles>) -> BTreeMap<String, Value> {
    let mut wrong = BTreeMap::new();
    for (name, has) in &pods.objects {
        let mut labels = serde_json::Map::new();
        for ((label, role), has) in LABELS.iter().zip(roles).zip(has) {
            match (name == pod, role, has) {
                (true, true, false) => labels.insert((*label).to_owned(), json!("true")),
                (true, false, true) | (false, true, true) => labels.insert((*label).to_owned(), Value::Null),
                _ => None,
            };
        }
        if !labels.is_empty() {
            wrong.insert(name.clone(), Value::Object(labels));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_labels_its_own_pod_and_takes_its_roles_from_the_others() {
        let pods = |list: &[(&str, Roles)]| Seen {
            synced: true,
            objects: list.iter().map(|(name, has)| ((*name).to_owned(), *has)).collect(),
        };
        let now = pods(&[("a", [false, true, true]), ("b", [true, true, true])]);
        let wrong = wrong([true, false, true], "a", &now);
        assert_eq!(wrong["a"], json!({"ovn-nb-leader": "true", "ovn-sb-leader": null}));
        assert_eq!(wrong["b"], json!({"ovn-nb-leader": null, "ovn-northd-leader": null}));
        let right = pods(&[("a", [true, false, true]), ("b", [false, true, false])]);
        assert!(super::wrong([true, false, true], "a", &right).is_empty());
        assert!(super::wrong([true; 3], "a", &pods(&[])).is_empty(), "its own pod is not known yet");
    }
}
