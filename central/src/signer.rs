//! Signs requests for keys of the databases: `CertificateSigningRequests` for [`keys::SIGNER`].
//!
//! Requests of the controller and of the agents of nodes are approved ([`verdict`]); an administrator approves others. What is
//! approved is signed. Each member does this, and the first one is first.

pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::ExternalHost;
use api::annotations::CHASSIS;
use daemons::control::{self, ControlError};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use keys::{Authority, AuthorityError, FORMER, HOLDER, Request, Role, SIGNER};
use kit::kubernetes::keep;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::database::Database;
use verdict::{Asker, Claims, Known, Verdict, verdict};

/// The pause before requests that were not answered are looked at again: a node or an external host may be there by then.
const AGAIN: Duration = Duration::from_secs(30);

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
        let read =
            |request: CertificateSigningRequest| Some((request.name_any(), is_open(&request).then_some(request)));
        let mut seen = keep("certificatesigningrequests", requests.clone(), ours, read);
        let mut said = BTreeMap::new();
        loop {
            let open: Vec<_> = seen.borrow_and_update().objects.values().flatten().cloned().collect();
            said.retain(|name, _| open.iter().any(|request| request.name_any() == *name));
            for request in &open {
                self.answer(&requests, request, &mut said).await;
            }
            tokio::select! {
                _ = seen.changed() => {}
                () = tokio::time::sleep(AGAIN), if !open.is_empty() => {}
            }
        }
    }

    /// Answers a request. What was `said` about it is not said again.
    async fn answer(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &CertificateSigningRequest,
        said: &mut BTreeMap<String, String>,
    ) {
        let name = request.name_any();
        let why = match self.try_to_answer(requests, request).await {
            Ok(None) => return,
            Ok(Some(why)) => format!("it waits for an administrator: {why}"),
            // Another member has answered, or it is gone.
            Err(SignerError::Kubernetes(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => return,
            Err(error) => error.to_string(),
        };
        if said.get(&name) != Some(&why) {
            tracing::warn!(request = name, why, "a request for a key is not signed");
        }
        said.insert(name, why);
    }

    /// Tries to answer a request. Returns why an administrator decides.
    async fn try_to_answer(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &CertificateSigningRequest,
    ) -> Result<Option<&'static str>, SignerError> {
        let authority = self.authority.borrow().clone();
        let Some(authority) = authority else { return Ok(None) };
        let wanted = match Request::parse(&String::from_utf8_lossy(&request.spec.request.0)) {
            Ok(wanted) if wanted.identity.role != Role::Member => wanted,
            Ok(_) => return self.fail(requests, request, "members issue their own certificates").await,
            Err(error) => return self.fail(requests, request, &error.to_string()).await,
        };
        let asker = Asker::of(request);
        // The others are looked at only where it matters.
        let is_about_others =
            wanted.identity.role == Role::Chassis && !asker.is_named_by_node(&wanted.identity, &self.namespace);
        let known = if is_about_others { self.known(&wanted.identity.name).await? } else { Known::default() };
        let claims = Claims {
            holder: request.labels().get(HOLDER).map(String::as_str),
            renews: request.annotations().get(FORMER).is_some_and(|former| wanted.renews(former, &authority)),
        };
        match verdict(&wanted.identity, &asker, &claims, &self.namespace, &known) {
            Verdict::Refuse(why) => return self.fail(requests, request, why).await,
            _ if conditions(request).any(|known| known == "Approved") => {}
            // The approval comes back as an event.
            Verdict::Approve(why) => return self.approve(requests, request, why).await,
            Verdict::Leave(why) => return Ok(Some(why)),
        }
        let (name, who) = (request.name_any(), wanted.identity.clone());
        let certificate = authority.sign(wanted)?;
        let status = json!({"status": {"certificate": ByteString(certificate.into_bytes())}});
        requests.patch_status(&name, &PatchParams::default(), &over(request, status)).await?;
        tracing::info!(request = name, ?who, "signed a key");
        Ok(None)
    }

    async fn approve(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &CertificateSigningRequest,
        why: &str,
    ) -> Result<Option<&'static str>, SignerError> {
        let condition = json!({"type": "Approved", "status": "True", "reason": "OvnCentral", "message": why});
        let approval = json!({"status": {"conditions": [condition]}});
        requests.patch_approval(&request.name_any(), &PatchParams::default(), &over(request, approval)).await?;
        Ok(None)
    }

    async fn fail(
        &self,
        requests: &Api<CertificateSigningRequest>,
        request: &CertificateSigningRequest,
        why: &str,
    ) -> Result<Option<&'static str>, SignerError> {
        let name = request.name_any();
        let mut all = serde_json::to_value(request.status.as_ref().and_then(|status| status.conditions.as_ref()))
            .ok()
            .and_then(|all| all.as_array().cloned())
            .unwrap_or_default();
        all.push(json!({"type": "Failed", "status": "True", "reason": "OvnCentral", "message": why}));
        let status = json!({"status": {"conditions": all}});
        requests.patch_status(&name, &PatchParams::default(), &over(request, status)).await?;
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

fn is_open(request: &CertificateSigningRequest) -> bool {
    let is_signed = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
    !is_signed && !conditions(request).any(|known| matches!(known, "Denied" | "Failed"))
}

/// Returns a patch of the object as it was read.
fn over(request: &CertificateSigningRequest, mut patch: Value) -> Patch<Value> {
    patch["metadata"] = json!({"resourceVersion": request.resource_version()});
    Patch::Merge(patch)
}

fn conditions(request: &CertificateSigningRequest) -> impl Iterator<Item = &str> {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|condition| condition.type_.as_str())
}
