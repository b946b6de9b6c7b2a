//! Compares `--service-cluster-ip-range` with the service range of the API server.
//!
//! A wrong flag causes errors that are hard to trace: a subnet can overlap the Service addresses, or nodes masquerade
//! the wrong traffic. Since Kubernetes 1.33 the API server publishes its range as `ServiceCIDR` objects
//! (networking.k8s.io/v1). This task watches them. It logs a difference as an error and sends [`Event::Services`],
//! which becomes an event of the default subnet. A difference does not stop the controller. If the objects cannot be
//! read, the task logs the reason once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Cidr, Cidrs};
use futures::{Stream, StreamExt};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kit::kubernetes::{Lister, Seen};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::cluster::Event;

/// The object that the API server creates from its own flags.
const DEFAULT: &str = "kubernetes";
/// The pause before the next list request after the API server refused one.
const REFUSED_RETRY: Duration = Duration::from_mins(5);
/// The pause after any other failure.
const FAILED_RETRY: Duration = Duration::from_secs(3);

/// The networks of each object, by its name.
type Ranges = BTreeMap<String, Vec<Cidr>>;

/// Watches until the owner drops its receiver.
pub async fn run(client: Client, flag: Cidrs, owner: mpsc::Sender<Event>) {
    let events = watcher(Api::<ServiceCIDR>::all(client), watcher::Config::default());
    compare(flag, std::pin::pin!(events), owner).await;
}

async fn compare(
    flag: Cidrs,
    mut events: impl Stream<Item = watcher::Result<watcher::Event<ServiceCIDR>>> + Unpin,
    owner: mpsc::Sender<Event>,
) {
    let (mut lister, mut seen) = (Lister::default(), Seen::default());
    let (mut sent, mut refusal): (Option<Option<Arc<str>>>, _) = (None, String::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => drop(lister.apply(&mut seen, event, |object| Some(read(&object)))),
            Err(error) => {
                let pause = if let Some(why) = refused(&error) {
                    if std::mem::replace(&mut refusal, why.to_owned()) != why {
                        tracing::warn!("{}", not_compared(&flag, why));
                    }
                    REFUSED_RETRY
                } else {
                    tracing::warn!(kind = "ServiceCIDR", %error, "the watch broke and is taken up again");
                    FAILED_RETRY
                };
                tokio::time::sleep(pause).await;
                continue;
            }
        }
        if seen.objects.is_empty() {
            continue;
        }
        let now: Option<Arc<str>> = difference(&flag, &seen.objects).map(Into::into);
        if sent.as_ref() == Some(&now) {
            continue;
        }
        if let Some(why) = &now {
            tracing::error!("{why}");
        } else {
            tracing::info!("--service-cluster-ip-range {flag} is what the API server gives Services addresses of");
        }
        sent = Some(now.clone());
        if owner.send(Event::Services(now)).await.is_err() {
            return;
        }
    }
}

/// Describes the difference, if there is one. If the API server has only its default `ServiceCIDR`, the flag must name
/// the same networks. If more `ServiceCIDR` objects exist, each must lie inside the network that the flag names.
fn difference(flag: &Cidrs, ranges: &Ranges) -> Option<String> {
    let known = |cidr: &Cidr| flag.get(cidr.family()).is_some_and(|flag| flag.covers(cidr));
    let unknown = ranges.iter().find(|(_, cidrs)| !cidrs.iter().all(known));
    let added = ranges.keys().any(|name| name != DEFAULT);
    let same = |cidrs: &Vec<Cidr>| flag.iter().all(|flag| cidrs.contains(flag));
    let other = || ranges.get_key_value(DEFAULT).filter(|(_, cidrs)| !added && !same(cidrs));
    let (name, cidrs) = unknown.or_else(other)?;
    let cidrs = cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    Some(format!(
        "--service-cluster-ip-range is {flag}, but the API server gives Services addresses of {cidrs} (ServiceCIDR {name}): give \
         the controller and the agents the API server's"
    ))
}

fn not_compared(flag: &Cidrs, why: &str) -> String {
    format!("--service-cluster-ip-range {flag} could not be compared with the API server's ServiceCIDR objects: {why}")
}

/// Why the API server refuses to list the objects. `None` for errors that are retried soon.
fn refused(error: &watcher::Error) -> Option<&str> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => match status.code {
            403 => Some("this controller may not list servicecidrs of networking.k8s.io"),
            404 => Some("it has none (Kubernetes before 1.33)"),
            _ => None,
        },
        _ => None,
    }
}

fn read(object: &ServiceCIDR) -> (String, Vec<Cidr>) {
    let cidrs = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    (object.metadata.name.clone().unwrap_or_default(), cidrs.filter_map(|cidr| cidr.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use serde_json::json;

    fn object(name: &str, cidrs: &[&str]) -> ServiceCIDR {
        let object = json!({ "metadata": { "name": name }, "spec": { "cidrs": cidrs } });
        serde_json::from_value(object).unwrap()
    }

    fn differs(flag: &str, ranges: &[(&str, &[&str])]) -> Option<String> {
        let ranges = ranges.iter().map(|(name, cidrs)| read(&object(name, cidrs))).collect();
        difference(&flag.parse().unwrap(), &ranges)
    }

    #[test]
    fn a_difference_names_the_flag_and_both_ranges() {
        let expected = "--service-cluster-ip-range is 10.96.0.0/12, but the API server gives Services addresses of 10.43.0.0/16 \
            (ServiceCIDR kubernetes): give the controller and the agents the API server's";
        assert_eq!(differs("10.96.0.0/12", &[(DEFAULT, &["10.43.0.0/16"])]).unwrap(), expected);
    }

    #[test]
    fn the_flag_must_be_equal_or_contain_added_ranges() {
        let dual: &[&str] = &["fd00:10:96::/112", "10.96.0.0/12"];
        for (flag, ranges, same) in [
            ("10.96.0.0/12", &[(DEFAULT, &["10.96.0.0/12"] as &[&str])] as &[_], true),
            ("10.96.0.0/12,fd00:10:96::/112", &[(DEFAULT, dual)], true),
            ("10.96.0.0/12", &[(DEFAULT, dual)], false),
            ("10.96.0.0/12,fd00:10:96::/112", &[(DEFAULT, &["10.96.0.0/12"])], false),
            ("10.96.0.0/12", &[(DEFAULT, &["10.96.0.0/16"])], false),
            ("10.96.0.0/12", &[(DEFAULT, &["10.96.0.0/16"]), ("more", &["10.97.0.0/16"])], true),
            ("10.96.0.0/16", &[(DEFAULT, &["10.96.0.0/16"]), ("more", &["10.97.0.0/16"])], false),
        ] {
            assert_eq!(differs(flag, ranges).is_none(), same, "{flag} and {ranges:?}");
        }
    }

    #[test]
    fn a_refused_list_is_reported() {
        assert_eq!(
            not_compared(
                &"10.96.0.0/12".parse().unwrap(),
                "this controller may not list servicecidrs of networking.k8s.io"
            ),
            "--service-cluster-ip-range 10.96.0.0/12 could not be compared with the API server's ServiceCIDR objects: this \
             controller may not list servicecidrs of networking.k8s.io"
        );
    }

    fn refused_by(code: u16) -> watcher::Error {
        let status = kube::core::Status::failure("no", "No").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_without_the_kind_says_nothing_against_the_flag() {
        let (sender, mut sent) = mpsc::channel(8);
        let events = stream::iter([Err(refused_by(404)), Err(refused_by(404))]);
        let began = tokio::time::Instant::now();
        compare("10.43.0.0/16".parse().unwrap(), events, sender).await;
        assert!(sent.recv().await.is_none());
        assert_eq!(began.elapsed(), 2 * REFUSED_RETRY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_is_sent_until_it_is_resolved_and_refusals_do_not_stop_the_watch() {
        let forbidden = "this controller may not list servicecidrs of networking.k8s.io";
        assert_eq!(refused(&refused_by(403)), Some(forbidden));
        assert_eq!(refused(&refused_by(404)), Some("it has none (Kubernetes before 1.33)"));
        assert_eq!(refused(&refused_by(500)), None);
        let (other, ours) = (object(DEFAULT, &["10.43.0.0/16"]), object(DEFAULT, &["10.96.0.0/12"]));
        let events = [
            Err(refused_by(403)),
            Err(refused_by(500)),
            Ok(watcher::Event::Init),
            Ok(watcher::Event::InitApply(other.clone())),
            Ok(watcher::Event::InitDone),
            Ok(watcher::Event::Apply(other)),
            Ok(watcher::Event::Apply(ours)),
        ];
        let (sender, mut sent) = mpsc::channel(8);
        compare("10.96.0.0/12".parse().unwrap(), stream::iter(events), sender).await;
        let mut lines = Vec::new();
        while let Some(Event::Services(wrong)) = sent.recv().await {
            lines.push(wrong.map(|why| why.contains("10.43.0.0/16 (ServiceCIDR kubernetes)")));
        }
        assert_eq!(lines, [Some(true), None]);
    }
}
