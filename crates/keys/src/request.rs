//! Gets a key by a `CertificateSigningRequest`, and renews it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kit::clock::Clock;
use kit::kubernetes::{Seen, keep, named};
use kit::once::Once;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::runtime::wait;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::authority::{AuthorityError, Request};
use crate::ends::Teller;
use crate::held::{Held, HeldError, Keys};
use crate::identity::{Identity, Role};
use crate::tls::Tls;
use crate::{AUTHORITY, FORMER, HOLDER, SIGNER, TRUSTED};

/// How a certificate begins in a PEM. The private key is before it.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The first pause after a failure, and the longest one. Each attempt can leave an object behind for an hour.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// The longest pause before the key is looked at again.
const LOOK: Duration = Duration::from_hours(1);

/// How long a request may be open before that is said.
const QUICK: Duration = Duration::from_secs(10);

/// How long a request may be open before another one is made.
const PATIENCE: Duration = Duration::from_hours(1);

/// Why there is no key before the authority is known.
const NO_AUTHORITY: &str = "ovn-central has not published the authority for keys yet (ConfigMap kube-ovn-ca)";

/// Keeps a key for one holder.
#[allow(missing_debug_implementations)] // the client has none
pub struct Requester {
    client: Client,
    identity: Identity,
    /// The node or external host.
    holder: Option<String>,
    keys: Keys,
    trusted: watch::Receiver<Seen<String>>,
    ready: watch::Sender<Readiness>,
    /// The request that is not answered yet, and its private key.
    pending: Option<(String, String)>,
}

/// Whether there is a valid key, or why not.
pub type Readiness = Result<(), String>;

/// Why a key that was signed just now is not taken.
const WRONG_CLOCK: &str = "a certificate that was signed just now is not valid by the clock of this machine: it differs from that of \
                           ovn-central by more than an hour";

/// Why there is no key yet.
#[derive(Debug, thiserror::Error)]
enum RequesterError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error(transparent)]
    Wait(#[from] wait::Error),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error("a former authority has signed the certificate")]
    Former,
    #[error("{WRONG_CLOCK}")]
    Clock,
    #[error("CertificateSigningRequest {name}: {why}")]
    Refused { name: String, why: String },
}

impl Requester {
    /// Creates what keeps a key in these files. `namespace` is that of the members, and `holder` the name of the node or external
    /// host of a chassis.
    pub fn new(client: &Client, namespace: &str, identity: Identity, holder: Option<&str>, keys: Keys) -> Self {
        let trusted = published(&Api::namespaced(client.clone(), namespace));
        let is_there = keys.read().is_ok_and(|held| held.identity == identity && held.is_valid());
        let ready = is_there.then_some(()).ok_or_else(|| NO_AUTHORITY.to_owned());
        let holder = holder.map(str::to_owned);
        Self {
            client: client.clone(),
            identity,
            holder,
            keys,
            trusted,
            ready: watch::Sender::new(ready),
            pending: None,
        }
    }

    /// Follows whether there is a key. One that is there stays while it is renewed.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.ready.subscribe()
    }

    /// Keeps the key for as long as the future runs.
    pub async fn run(mut self) -> Infallible {
        let (mut said, mut pause, mut clock) = (Once::default(), RETRY.0, Clock::watch());
        let mut teller = Teller::default();
        loop {
            self.trusted.mark_unchanged();
            let round = self.round().await;
            teller.look(&self.keys);
            let next = match round {
                Ok(next) => {
                    said.clear();
                    pause = RETRY.0;
                    next
                }
                Err(error) => {
                    let error = error.to_string();
                    if said.is_new(&error) {
                        tracing::warn!(error, "there is no new key for the databases; trying again");
                    }
                    let now = pause;
                    pause = RETRY.1.min(pause * 2);
                    now
                }
            };
            tokio::select! {
                _ = self.trusted.changed() => {}
                // The certificate may be valid no more, or not yet.
                () = clock.is_set() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Gets a key if that which is there is not good. Returns when to look again.
    async fn round(&mut self) -> Result<Duration, RequesterError> {
        let Some(trusted) = self.published() else {
            // ovn-central publishes it, or somebody puts a key here.
            if self.held().is_some() {
                drop(self.ready.send_replace(Ok(())));
            }
            return Ok(LOOK);
        };
        // Servers that have a certificate of another authority already are trusted before this one has its own.
        self.keys.write_trusted(&trusted)?;
        if let Some(held) = self.held()
            && held.is_signed_by_first(&trusted)
            && let Some(left) = held.renewal()
        {
            drop(self.ready.send_replace(Ok(())));
            return Ok(left.min(LOOK));
        }
        let own = self.request().await?;
        let held = Held::parse(own.as_bytes())?;
        if !held.is_signed_by_first(&self.published().unwrap_or_default()) {
            return Err(RequesterError::Former);
        }
        let Some(left) = held.renewal() else {
            drop(self.ready.send_replace(Err(WRONG_CLOCK.to_owned())));
            return Err(RequesterError::Clock);
        };
        self.keys.write(&own, &trusted)?;
        drop(self.ready.send_replace(Ok(())));
        tracing::info!(name = self.identity.name, "got a key for the databases");
        Ok(left.min(LOOK))
    }

    /// Returns the certificates that ovn-central has published.
    fn published(&self) -> Option<String> {
        self.trusted.borrow().objects.get(AUTHORITY).filter(|text| !text.is_empty()).cloned()
    }

    /// Returns the key that is there, if it is valid and can be used.
    fn held(&self) -> Option<Held> {
        let held = self.keys.read().ok()?;
        (held.identity == self.identity && held.is_valid() && Tls::read(&self.keys).is_ok()).then_some(held)
    }

    /// Asks for a certificate, and waits for it. Returns it with its private key.
    async fn request(&mut self) -> Result<String, RequesterError> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let (name, key) = match self.pending.clone() {
            Some(pending) => pending,
            None => self.create(&requests).await?,
        };
        let refused = |why: &str| RequesterError::Refused { name: name.clone(), why: why.to_owned() };
        let answer = wait::await_condition(requests, &name, |object: Option<&CertificateSigningRequest>| {
            object.is_none_or(|object| certificate(object).is_some() || refusal(object).is_some())
        });
        let mut answer = std::pin::pin!(answer);
        let began = Instant::now();
        let mut said = false;
        let answered = loop {
            let wake = if said { PATIENCE } else { QUICK };
            tokio::select! {
                answered = &mut answer => break answered?,
                _ = self.trusted.changed() => {
                    if let Some(trusted) = self.published() {
                        self.keys.write_trusted(&trusted)?;
                    }
                }
                () = tokio::time::sleep_until(began + wake) => {
                    if said {
                        self.pending = None;
                        return Err(refused("nobody has answered"));
                    }
                    tracing::warn!("{}", unsigned(&name));
                    said = true;
                }
            }
        };
        // If the watch has failed, the same request is waited for again.
        self.pending = None;
        let answered = answered.ok_or_else(|| refused("it was deleted"))?;
        match (certificate(&answered), refusal(&answered)) {
            (Some(certificate), _) => Ok(key + &certificate),
            (None, Some(why)) => Err(refused(&why)),
            (None, None) => Err(refused("it has no answer")),
        }
    }

    /// Makes a request. Returns its name and its private key.
    async fn create(&mut self, requests: &Api<CertificateSigningRequest>) -> Result<(String, String), RequesterError> {
        let (held, trusted) = (self.held(), self.published().unwrap_or_default());
        let has_key = held.is_some();
        // Whoever has a key proves it by using it again. With a new authority, all get new ones: others may know the former ones.
        let former = held.filter(|held| held.is_signed_by_first(&trusted)).and_then(|_| self.keys.text().ok());
        let (key, request) = Request::create(&self.identity, former.as_deref())?;
        let created = requests.create(&PostParams::default(), &self.object(request, former)).await?;
        let name = created.name_any();
        tracing::info!(request = name, "asked for a key for the databases");
        if !has_key {
            drop(self.ready.send_replace(Err(unsigned(&name))));
        }
        self.pending = Some((name.clone(), key.clone()));
        Ok((name, key))
    }

    /// Returns the object. `former` is the private key and the certificate that are used now.
    fn object(&self, request: String, former: Option<String>) -> CertificateSigningRequest {
        let what = match self.identity.role {
            Role::Member => "member",
            Role::Controller => "controller",
            Role::Chassis => "chassis",
        };
        let former = former.and_then(|text| Some(text[text.find(CERTIFICATE)?..].to_owned()));
        // The value of a label is no longer.
        let holder = self.holder.clone().filter(|holder| holder.len() <= 63);
        CertificateSigningRequest {
            metadata: ObjectMeta {
                generate_name: Some(format!("kube-ovn-{what}-")),
                labels: holder.map(|holder| BTreeMap::from([(HOLDER.to_owned(), holder)])),
                annotations: former.map(|former| BTreeMap::from([(FORMER.to_owned(), former)])),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: SIGNER.to_owned(),
                usages: Some(["digital signature", "client auth"].map(str::to_owned).into()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        }
    }
}

/// Follows the certificates that ovn-central has published: the value of [`AUTHORITY`]. One without certificates is empty.
pub fn published(maps: &Api<ConfigMap>) -> watch::Receiver<Seen<String>> {
    keep("configmaps", maps.clone(), named(AUTHORITY), |map: ConfigMap| {
        let text = map.data.as_ref().and_then(|data| data.get(TRUSTED)).cloned();
        Some((map.name_any(), text.unwrap_or_default()))
    })
}

/// Says why there is no key.
fn unsigned(request: &str) -> String {
    format!(
        "CertificateSigningRequest {request} is not signed: ovn-central signs those of pods on their nodes, and others when an \
         administrator has approved them (kubectl certificate approve)"
    )
}

fn certificate(object: &CertificateSigningRequest) -> Option<String> {
    let certificate = object.status.as_ref()?.certificate.as_ref()?;
    String::from_utf8(certificate.0.clone()).ok().filter(|text| !text.is_empty())
}

fn refusal(object: &CertificateSigningRequest) -> Option<String> {
    let conditions = object.status.as_ref()?.conditions.iter().flatten();
    let refusal = conditions.into_iter().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"))?;
    Some(format!("{}: {}", refusal.type_.to_lowercase(), refusal.message.as_deref().unwrap_or("without a reason")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said() {
        assert_eq!(
            unsigned("kube-ovn-chassis-x7k2p"),
            "CertificateSigningRequest kube-ovn-chassis-x7k2p is not signed: ovn-central signs those of pods on their nodes, \
             and others when an administrator has approved them (kubectl certificate approve)"
        );
        assert_eq!(
            RequesterError::Clock.to_string(),
            "a certificate that was signed just now is not valid by the clock of this machine: it differs from that of ovn-central \
             by more than an hour"
        );
        assert_eq!(NO_AUTHORITY, "ovn-central has not published the authority for keys yet (ConfigMap kube-ovn-ca)");
    }

    #[test]
    fn an_answer_is_a_certificate_or_a_reason() {
        use k8s_openapi::api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};
        let answered = |status| CertificateSigningRequest { status: Some(status), ..Default::default() };
        let open = answered(CertificateSigningRequestStatus::default());
        assert_eq!((certificate(&open), refusal(&open)), (None, None));
        let pem = ByteString(b"pem".to_vec());
        let signed = CertificateSigningRequestStatus { certificate: Some(pem), ..Default::default() };
        assert_eq!(certificate(&answered(signed)).as_deref(), Some("pem"));
        let condition = CertificateSigningRequestCondition {
            type_: "Denied".to_owned(),
            message: Some("who are you?".to_owned()),
            ..Default::default()
        };
        let denied = CertificateSigningRequestStatus { conditions: Some(vec![condition]), ..Default::default() };
        assert_eq!(refusal(&answered(denied)).as_deref(), Some("denied: who are you?"));
    }
}
