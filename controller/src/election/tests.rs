//! Tests of the remaining time of a Lease and of giving it back. The API server is one Lease in memory.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use kube::client::Body;
use serde_json::Value;

use super::*;

/// The remaining time in seconds.
fn left(holder: &str, renewed_before: i64, duration: i32) -> u128 {
    let renewed = Timestamp::now() - SignedDuration::from_secs(renewed_before);
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(duration),
        renew_time: Some(MicroTime(renewed)),
        ..LeaseSpec::default()
    };
    (time_left(&Lease { spec: Some(spec), ..Lease::default() }).as_millis() + 500) / 1000
}

#[test]
fn a_lease_binds_until_it_expires() {
    assert_eq!((left("other", 5, 15), left("other", 15, 15), left("other", 99, 15)), (10, 0, 0));
    assert_eq!((left("", 0, 1), left("", 1, 1)), (1, 0), "one that was given back");
    assert_eq!(time_left(&Lease::default()), Duration::ZERO);
}

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
        give_back(&Api::namespaced(self.client(), "kube-system"), holder, Duration::from_secs(15)).await.unwrap();
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
    let params =
        LeaseLockParams { lease_name: LEASE.to_owned(), holder_id: "b".to_owned(), lease_ttl: Duration::from_secs(15) };
    let next = LeaseLock::new(server.client(), "kube-system", params);
    assert!(matches!(next.try_acquire_or_renew().await.unwrap(), LeaseLockResult::NotAcquired(_)));
    server.given_back_by("a").await;
    assert_eq!((time_left(&server.lease()), server.holder().as_str()), (Duration::ZERO, ""));
    assert!(matches!(next.try_acquire_or_renew().await.unwrap(), LeaseLockResult::Acquired(_)));
    assert_eq!(server.holder(), "b");
}

#[tokio::test]
async fn another_holders_lease_is_not_changed() {
    for server in [Server::held_by("b", None), Server::held_by("a", Some("b"))] {
        server.given_back_by("a").await;
        assert_eq!(server.holder(), "b");
        assert!(time_left(&server.lease()) > Duration::from_secs(10));
    }
    // The Lease has changed, but we still hold it: for example, an earlier renewal has arrived.
    let server = Server::held_by("a", Some("a"));
    server.given_back_by("a").await;
    assert_eq!((server.holder().as_str(), time_left(&server.lease())), ("", Duration::ZERO));
}
