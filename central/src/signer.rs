//! Signs requests for keys of the databases: `CertificateSigningRequests` for [`keys::SIGNER`].
//!
//! Requests of the controller and of the agents of nodes are approved ([`verdict`]); an administrator approves others. What is
//! approved is signed. Each member does this, and the first one is first. Nobody waits for the many requests of another one
//! ([`turns`]).

mod open;
mod turns;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use api::ExternalHost;
use api::annotations::CHASSIS;
use daemons::control::{self, ControlError};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use keys::{Authority, AuthorityError, Request, Role, SIGNER};
use kit::kubernetes::keep;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::database::Database;
use open::Open;
use turns::Turns;
use verdict::{Claims, Known, Verdict, verdict};

/// Signs requests.
#[allow(missing_debug_implementations)] // the client has none
pub struct Signer {
    /// The client of the API server.
    pub client: Client,
    /// The namespace of the accounts.
    pub namespace: String,
    /// The authority.
    pub authority: watch::Receiver<Option<Arc<Authority>>>,
    /// The southbound database, which knows the hosts of chassis.
    pub southbound: Database,
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
enum SignerError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the host of the chassis: {0}")]
    Southbound(#[from] ControlError),
}

impl Signer {
    /// Signs for as long as the future runs.
    pub async fn run(mut self) -> Infallible {
        // The sender lives as long as the process.
        let _ = self.authority.wait_for(Option::is_some).await;
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let ours = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
        let read = |request: CertificateSigningRequest| Some((request.name_any(), Open::of(request)));
        let mut seen = keep("certificatesigningrequests", requests.clone(), ours, read);
        let (mut turns, mut said) = (Turns::default(), BTreeMap::new());
        loop {
            let (now, again) = {
                let seen = seen.borrow_and_update();
                let open: Vec<&Open> = seen.objects.values().flatten().collect();
                said.retain(|name, _| seen.objects.get(name).is_some_and(Option::is_some));
                let (now, again) = turns.take(&open, Instant::now());
                (now.into_iter().cloned().collect::<Vec<_>>(), again)
            };
            for request in &now {
                self.answer(&requests, request, &mut said).await;
            }
            tokio::select! {
                _ = seen.changed() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// Answers a request. What was `said` about it is not said again.
    async fn answer(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &Open,
        said: &mut BTreeMap<String, String>,
    ) {
        let why = match self.try_to_answer(requests, request).await {
            Ok(None) => return,
            Ok(Some(why)) => format!("it waits for an administrator: {why}"),
            // Another member has answered, or it is gone.
            Err(SignerError::Kubernetes(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
            Err(error) => error.to_string(),
        };
        if said.get(&request.name) != Some(&why) {
            tracing::warn!(request = request.name, why, "a request for a key is not signed");
        }
        said.insert(request.name.clone(), why);
    }

    /// Tries to answer a request. Returns why an administrator decides.
    async fn try_to_answer(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &Open,
    ) -> Result<Option<&'static str>, SignerError> {
        let authority = self.authority.borrow().clone();
        let Some(authority) = authority else { return Ok(None) };
        let Some(text) = &request.request else {
            return self.fail(requests, request, "it is longer than a request for a key of the databases").await;
        };
        let wanted = match Request::parse(text) {
            Ok(wanted) if wanted.identity.role != Role::Member => wanted,
            Ok(_) => return self.fail(requests, request, "members issue their own certificates").await,
            Err(error) => return self.fail(requests, request, &error.to_string()).await,
        };
        let asker = &request.asker;
        // The others are looked at only where it matters.
        let is_about_others =
            wanted.identity.role == Role::Chassis && !asker.is_named_by_node(&wanted.identity, &self.namespace);
        let known = if is_about_others { self.known(&wanted.identity.name).await? } else { Known::default() };
        let claims = Claims {
            holder: request.holder.as_deref(),
            renews: request.former.as_ref().is_some_and(|former| wanted.renews(former, &authority)),
        };
        match verdict(&wanted.identity, asker, &claims, &self.namespace, &known) {
            Verdict::Refuse(why) => return self.fail(requests, request, why).await,
            _ if request.is_approved() => {}
            // The approval comes back as an event.
            Verdict::Approve(why) => return self.approve(requests, request, why).await,
            Verdict::Leave(why) => return Ok(Some(why)),
        }
        let (name, who) = (&request.name, wanted.identity.clone());
        let certificate = authority.sign(wanted)?;
        let status = json!({"status": {"certificate": ByteString(certificate.into_bytes())}});
        requests.patch_status(name, &PatchParams::default(), &over(request, status)).await?;
        tracing::info!(request = name, ?who, "signed a key");
        Ok(None)
    }

    async fn approve(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &Open,
        why: &str,
    ) -> Result<Option<&'static str>, SignerError> {
        let condition = json!({"type": "Approved", "status": "True", "reason": "OvnCentral", "message": why});
        let approval = json!({"status": {"conditions": [condition]}});
        requests.patch_approval(&request.name, &PatchParams::default(), &over(request, approval)).await?;
        Ok(None)
    }

    async fn fail(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &Open,
        why: &str,
    ) -> Result<Option<&'static str>, SignerError> {
        let name = &request.name;
        let failed = json!({"type": "Failed", "status": "True", "reason": "OvnCentral", "message": why});
        let all: Vec<Value> = request.conditions.iter().map(|known| json!(known)).chain([failed]).collect();
        let status = json!({"status": {"conditions": all}});
        requests.patch_status(name, &PatchParams::default(), &over(request, status)).await?;
        tracing::warn!(request = name, why, "a request for a key is refused");
        Ok(None)
    }

    /// Returns what is known of a chassis.
    async fn known(&self, name: &str) -> Result<Known, SignerError> {
        let (nodes, hosts): (Api<Node>, Api<ExternalHost>) =
            (Api::all(self.client.clone()), Api::all(self.client.clone()));
        let hosts = hosts.list_metadata(&ListParams::default()).await?;
        let nodes = nodes.list_metadata(&ListParams::default()).await?;
        let all: BTreeSet<String> =
            hosts.iter().map(ResourceExt::name_any).chain(nodes.iter().map(ResourceExt::name_any)).collect();
        let is_annotated =
            |node: &&PartialObjectMeta<Node>| node.annotations().get(CHASSIS).is_some_and(|known| known == name);
        let select =
            json!({"op": "select", "table": "Chassis", "where": [["name", "==", name]], "columns": ["hostname"]});
        let socket = self.southbound.socket();
        let connecting = UnixStream::connect(&socket);
        let found = control::read(&socket.display().to_string(), connecting, "OVN_Southbound", &[select]).await?;
        Ok(Known {
            name: name.to_owned(),
            registered: found[0]["rows"][0]["hostname"].as_str().map(str::to_owned),
            annotated: nodes.iter().filter(is_annotated).map(ResourceExt::name_any).collect(),
            all,
        })
    }
}

/// Returns a patch of the object as it was read.
fn over(request: &Open, mut patch: Value) -> Patch<Value> {
    patch["metadata"] = json!({"resourceVersion": request.version});
    Patch::Merge(patch)
}
