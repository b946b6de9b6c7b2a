//! Tests of when a replica acquires the Lease, and of giving it back. The API server is one Lease in memory.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use serde_json::Value;

use super::*;

/// A Lease on an API server. `new_holder` takes it between the first read and the first write.
#[derive(Clone)]
struct Server {
    lease: Arc<Mutex<Value>>,
    new_holder: Arc<Mutex<Option<&'static str>>>,
}

impl Server {
    /// A Lease of this holder, renewed just now.
    fn held_by(holder: &str, new_holder: Option<&'static str>) -> Self {
        let now = MicroTime(Timestamp::now());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": LEASE, "resourceVersion": "1" },
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 0,
                "renewTime": now, "acquireTime": now,
            },
        });
        Self { lease: Arc::new(Mutex::new(lease)), new_holder: Arc::new(Mutex::new(new_holder)) }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await?;
                let (code, answer) = server.answer(&method, &body);
                let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                response.map_err(kube::Error::HttpError)
            }
        });
        Client::new(service, "kube-system")
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let mut lease = self.lease.lock().unwrap();
        if *method == Method::POST {
            *lease = serde_json::from_slice(body).unwrap();
            lease["metadata"]["resourceVersion"] = json!("100");
        }
        if lease.is_null() {
            let gone = json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404 });
            return (StatusCode::NOT_FOUND, gone);
        }
        if *method == Method::PATCH {
            let patch: Value = serde_json::from_slice(body).unwrap();
            let read = &patch["metadata"]["resourceVersion"];
            if !read.is_null() && *read != lease["metadata"]["resourceVersion"] {
                let conflict = json!({ "kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409 });
                return (StatusCode::CONFLICT, conflict);
            }
            write(&mut lease, patch["spec"].as_object().unwrap().clone());
        }
        let answer = lease.clone();
        if let Some(new_holder) = self.new_holder.lock().unwrap().take() {
            write(&mut lease, json!({ "holderIdentity": new_holder }).as_object().unwrap().clone());
        }
        (StatusCode::OK, answer)
    }

    async fn given_back_by(&self, holder: &str) {
        give_back(&Api::namespaced(self.client(), "kube-system"), holder).await.unwrap();
    }

    /// A replica with this name, and a Lease of 6 s.
    fn candidate(&self, identity: &str) -> Candidate {
        let (identity, ttl) = (identity.to_owned(), Duration::from_secs(6));
        let params = LeaseLockParams { lease_name: LEASE.to_owned(), holder_id: identity.clone(), lease_ttl: ttl };
        let lock = LeaseLock::new(self.client(), "kube-system", params);
        let leases = Api::namespaced(self.client(), "kube-system");
        Candidate { lock, leases, identity, ttl, seen: Seen::default() }
    }

    fn change(&self, spec: &Value) {
        write(&mut self.lease.lock().unwrap(), spec.as_object().unwrap().clone());
    }

    fn delete(&self) {
        *self.lease.lock().unwrap() = Value::Null;
    }

    fn renewed(&self, by_clock_of_holder: Timestamp) {
        self.change(&json!({ "renewTime": MicroTime(by_clock_of_holder) }));
    }

    fn lease(&self) -> Lease {
        serde_json::from_value(self.lease.lock().unwrap().clone()).unwrap()
    }

    fn holder(&self) -> String {
        self.lease().spec.unwrap().holder_identity.unwrap()
    }
}

fn write(lease: &mut Value, spec: serde_json::Map<String, Value>) {
    lease["spec"].as_object_mut().unwrap().extend(spec);
    let version: u64 = lease["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
}

#[tokio::test]
async fn a_lease_that_was_given_back_can_be_acquired_at_once() {
    let server = Server::held_by("a", None);
    let mut next = server.candidate("b");
    assert!(!next.try_to_lead(false).await.unwrap());
    server.given_back_by("a").await;
    assert_eq!(server.holder(), "");
    assert!(next.try_to_lead(false).await.unwrap());
    assert_eq!(server.holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_lease_expires_when_it_does_not_change_whatever_the_clocks_say() {
    let (past, future) =
        (Timestamp::now() - SignedDuration::from_hours(9), Timestamp::now() + SignedDuration::from_hours(9));
    let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    for clock in [past, Timestamp::now(), future] {
        let server = Server::held_by("a", None);
        let mut standby = server.candidate("b");
        for _ in 0..3 {
            server.renewed(clock);
            assert!(!standby.try_to_lead(false).await.unwrap());
            seconds(14).await;
            assert!(!standby.try_to_lead(false).await.unwrap(), "the Lease says 15 s");
        }
        seconds(1).await;
        assert!(standby.try_to_lead(false).await.unwrap());
        assert_eq!(server.holder(), "b");
        assert!(standby.try_to_lead(true).await.unwrap());
        assert!(!server.candidate("a").try_to_lead(false).await.unwrap());
    }
}

/// Another replica has taken the Lease meanwhile, and its clock is far behind ours.
#[tokio::test]
async fn a_leader_that_was_paused_takes_no_lease_by_its_clock() {
    let server = Server::held_by("b", None);
    server.renewed(Timestamp::now() - SignedDuration::from_hours(9));
    let paused = Standing::Leading { asked: Instant::now(), until: Instant::now() };
    assert!(!server.candidate("a").try_to_lead(paused.holds(Instant::now())).await.unwrap());
    assert_eq!(server.holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_has_spoiled_is_mended() {
    for (spec, seconds) in [
        (json!({ "renewTime": null, "acquireTime": null, "leaseTransitions": null }), 15),
        (json!({ "leaseDurationSeconds": 2_000_000_000 }), 60),
        // The holder may take itself for the leader for as long as its own Lease lasts.
        (json!({ "leaseDurationSeconds": -1 }), 6),
        (json!({ "leaseDurationSeconds": null }), 6),
        (json!({ "holderIdentity": null, "leaseTransitions": null }), 0),
    ] {
        let server = Server::held_by("a", None);
        server.change(&spec);
        let mut standby = server.candidate("b");
        assert_eq!(standby.try_to_lead(false).await.unwrap(), seconds == 0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert!(standby.try_to_lead(false).await.unwrap());
        assert_eq!(server.holder(), "b");
    }
}

/// Somebody has deleted the Lease. Its holder learns that when it renews it next, and creates it again.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_is_left_to_its_holder_for_a_while() {
    let server = Server::held_by("a", None);
    let (mut leader, mut standby) = (server.candidate("a"), server.candidate("b"));
    assert!(leader.try_to_lead(true).await.unwrap());
    assert!(!standby.try_to_lead(false).await.unwrap());
    server.delete();
    assert!(!standby.try_to_lead(false).await.unwrap());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!standby.try_to_lead(false).await.unwrap());
    assert!(leader.try_to_lead(true).await.unwrap());
    assert_eq!(server.holder(), "a");
    assert!(!standby.try_to_lead(false).await.unwrap());
    server.delete();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!standby.try_to_lead(false).await.unwrap());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(standby.try_to_lead(false).await.unwrap(), "its holder is gone, too");
    assert!(server.candidate("c").try_to_lead(false).await.is_ok_and(|leads| !leads));
}

/// The API server was away for as long as the Lease lasts, and both ask at once when it is back.
#[tokio::test]
async fn a_renewal_of_a_lease_that_another_one_has_acquired_meanwhile_is_none() {
    let server = Server::held_by("a", None);
    let mut former = server.candidate("a");
    assert!(former.try_to_lead(true).await.unwrap());
    server.change(&json!({ "holderIdentity": "b" }));
    assert!(!former.try_to_lead(true).await.unwrap());
    assert_eq!(server.holder(), "b");
}

#[tokio::test]
async fn of_two_that_see_it_expire_one_leads() {
    let server = Server::held_by("", Some("c"));
    assert!(!server.candidate("b").try_to_lead(false).await.unwrap());
    assert_eq!(server.holder(), "c");
}

#[tokio::test]
async fn another_holders_lease_is_not_changed() {
    for server in [Server::held_by("b", None), Server::held_by("a", Some("b"))] {
        server.given_back_by("a").await;
        assert_eq!(server.holder(), "b");
    }
    // The Lease has changed, but we still hold it: for example, an earlier renewal has arrived.
    let server = Server::held_by("a", Some("a"));
    server.given_back_by("a").await;
    assert_eq!(server.holder(), "");
}
