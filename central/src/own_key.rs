//! The member's own key, and the authority that has signed it.
//!
//! The authority is in a Secret. If that is empty, the first member that finds it so fills it. Each member issues its own
//! certificate, anew when it is about to end or the Secret has another authority, and publishes what everybody trusts in a
//! ConfigMap. A member that has a key starts without the API server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keys::tls::{Tls, TlsError};
use keys::{AUTHORITY, Authority, AuthorityError, HeldError, Keys, Role, TRUSTED, Teller};
use kit::clock::Clock;
use kit::kubernetes::{Seen, keep, named};
use kit::once::Once;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// The longest pause before the certificate is looked at again.
const LOOK: Duration = Duration::from_hours(1);

/// The keys of the Secret, as in Secrets of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// The member's key.
#[allow(missing_debug_implementations)] // the client has none
pub struct OwnKey {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    seen: watch::Receiver<Seen<Secret>>,
    published: watch::Receiver<Seen<String>>,
    node: String,
    addresses: Vec<IpAddr>,
    keys: Keys,
    tls: watch::Sender<Option<Tls>>,
    authority: watch::Sender<Option<Arc<Authority>>>,
    distrusted: watch::Sender<()>,
}

/// Why there is no key, or no new one.
#[derive(Debug, thiserror::Error)]
enum OwnKeyError {
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    #[error("Secret {AUTHORITY}: {0}")]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the files of the key: {0}")]
    Files(#[from] std::io::Error),
    #[error("Secret {AUTHORITY}: it does not exist; the installation makes an empty one")]
    NoSecret,
    #[error("Secret {AUTHORITY}: it has {there} and not {missing}")]
    Half { there: &'static str, missing: &'static str },
    #[error("Secret {AUTHORITY}: {0} is not PEM")]
    NoText(&'static str),
}

impl OwnKey {
    /// Creates the key of the member on a node with these addresses.
    pub fn new(client: &Client, namespace: &str, node: &str, addresses: Vec<IpAddr>, keys: Keys) -> Self {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let read = |secret: Secret| Some((secret.name_any(), secret));
        let seen = keep("secrets", secrets.clone(), named(AUTHORITY), read);
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let published = keys::published(&maps);
        let is_there = keys.read().is_ok_and(|held| held.identity.role == Role::Member);
        let tls = if is_there { Tls::read(&keys).ok() } else { None };
        Self {
            secrets,
            maps,
            seen,
            published,
            node: node.to_owned(),
            addresses,
            keys,
            tls: watch::Sender::new(tls),
            authority: watch::Sender::new(None),
            distrusted: watch::Sender::new(()),
        }
    }

    /// Follows the key as it is used for connections.
    pub fn tls(&self) -> watch::Receiver<Option<Tls>> {
        self.tls.subscribe()
    }

    /// Follows the authority.
    pub fn authority(&self) -> watch::Receiver<Option<Arc<Authority>>> {
        self.authority.subscribe()
    }

    /// Follows that an authority is not trusted any more.
    pub fn distrusted(&self) -> watch::Receiver<()> {
        self.distrusted.subscribe()
    }

    /// Keeps the key for as long as the future runs.
    pub async fn run(mut self) -> Infallible {
        let (mut said, mut clock, mut teller) = (Once::default(), Clock::watch(), Teller::default());
        // Clients of the southbound server, which reads the files itself, can be connected already.
        let trusted = std::fs::read_to_string(self.keys.trusted()).unwrap_or_default();
        let mut told = Files { own: String::new(), trusted };
        loop {
            self.seen.mark_unchanged();
            self.published.mark_unchanged();
            let round = self.round(&mut told).await;
            teller.look(&self.keys);
            let next = match round {
                Ok(next) => {
                    said.clear();
                    next
                }
                Err(error) => {
                    let error = error.to_string();
                    if said.is_new(&error) {
                        tracing::warn!(error, "the key of the member is not kept; trying again");
                    }
                    Some(RETRY)
                }
            };
            tokio::select! {
                _ = self.seen.changed() => {}
                _ = self.published.changed() => {}
                // A certificate may be valid no more, or not yet.
                () = clock.is_set() => {}
                () = tokio::time::sleep(next.unwrap_or_default()), if next.is_some() => {}
            }
        }
    }

    /// Issues a certificate if that which is there is not good. Returns when to look again. `told` are the files of which others
    /// were told.
    async fn round(&self, told: &mut Files) -> Result<Option<Duration>, OwnKeyError> {
        let (synced, secret) = {
            let seen = self.seen.borrow();
            (seen.synced, seen.objects.get(AUTHORITY).cloned())
        };
        if !synced {
            return Ok(None);
        }
        let secret = secret.ok_or(OwnKeyError::NoSecret)?;
        let Some(authority) = self.read(&secret).await? else { return Ok(Some(RETRY)) };
        let held = self.keys.read().ok().filter(|held| {
            let is_own = held.identity.role == Role::Member && held.identity.name == self.node;
            let is_usable = Tls::read(&self.keys).is_ok();
            is_own && is_usable && held.addresses == self.addresses && held.is_signed_by_first(authority.trusted())
        });
        let left = held.and_then(|held| held.renewal());
        if left.is_none() {
            self.keys.write(&authority.member(&self.node, &self.addresses)?, authority.trusted())?;
            tracing::info!(node = self.node, "the member has a new key");
        } else {
            self.keys.write_trusted(authority.trusted())?;
        }
        let now = Files::read(&self.keys)?;
        if *told != now {
            self.tls.send_replace(Some(Tls::read(&self.keys)?));
            if certificates(&told.trusted).any(|certificate| !now.trusted.contains(certificate)) {
                self.distrusted.send_replace(());
            }
            *told = now;
        }
        let trusted = authority.trusted().to_owned();
        self.authority.send_replace(Some(Arc::new(authority)));
        // Whoever reads this asks for a certificate of the new authority.
        self.publish(&trusted).await?;
        Ok(Some(left.unwrap_or(RETRY).min(LOOK)))
    }

    /// Takes the authority from the Secret. Fills an empty one: then it is read again.
    async fn read(&self, secret: &Secret) -> Result<Option<Authority>, OwnKeyError> {
        let value = |key: &'static str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
            let text = String::from_utf8(value.unwrap_or_default()).map_err(|_| OwnKeyError::NoText(key))?;
            Ok::<_, OwnKeyError>(Some(text).filter(|text| !text.trim().is_empty()))
        };
        match (value(CERTIFICATE)?, value(PRIVATE_KEY)?) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Authority::parse(&certificate, &key, &value(TRUSTED)?.unwrap_or_default())?))
            }
            (Some(_), None) => Err(OwnKeyError::Half { there: CERTIFICATE, missing: PRIVATE_KEY }),
            (None, Some(_)) => Err(OwnKeyError::Half { there: PRIVATE_KEY, missing: CERTIFICATE }),
            (None, None) => {
                let (certificate, key) = Authority::create()?;
                let mut filled = secret.clone();
                // If the Secret was lost, those who have a certificate are served until they have another one.
                let before = std::fs::read_to_string(self.keys.trusted()).unwrap_or_default();
                let before = value(TRUSTED)?.unwrap_or(before);
                let trusted = certificate.clone() + &before;
                let data = [(CERTIFICATE, certificate), (PRIVATE_KEY, key), (TRUSTED, trusted)];
                let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
                filled.data.get_or_insert_default().extend(data);
                match self.secrets.replace(AUTHORITY, &PostParams::default(), &filled).await {
                    Ok(_) => tracing::info!("there is a new authority for the keys of the databases"),
                    // Another member has filled it.
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(None)
            }
        }
    }

    /// Publishes the certificates that everybody trusts.
    async fn publish(&self, trusted: &str) -> Result<(), OwnKeyError> {
        if self.published.borrow().objects.get(AUTHORITY).is_some_and(|text| text == trusted) {
            return Ok(());
        }
        let there = self.maps.get_opt(AUTHORITY).await?;
        let data = BTreeMap::from([(TRUSTED.to_owned(), trusted.to_owned())]);
        let written = if let Some(mut map) = there {
            map.data = Some(data);
            self.maps.replace(AUTHORITY, &PostParams::default(), &map).await
        } else {
            let metadata = ObjectMeta { name: Some(AUTHORITY.to_owned()), ..ObjectMeta::default() };
            let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            self.maps.create(&PostParams::default(), &map).await
        };
        match written {
            // Another member has written it, and the watch tells what.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            written => Ok(written.map(drop)?),
        }
    }
}

/// The certificates of this member, and those that it trusts.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    own: String,
    trusted: String,
}

impl Files {
    fn read(keys: &Keys) -> std::io::Result<Self> {
        Ok(Self { own: std::fs::read_to_string(keys.own())?, trusted: std::fs::read_to_string(keys.trusted())? })
    }
}

/// Returns the certificates of a PEM.
fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).map(str::trim).filter(|certificate| certificate.ends_with(END))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let said = OwnKeyError::NoSecret.to_string();
        assert_eq!(said, "Secret kube-ovn-ca: it does not exist; the installation makes an empty one");
        let half = OwnKeyError::Half { there: CERTIFICATE, missing: PRIVATE_KEY }.to_string();
        assert_eq!(half, "Secret kube-ovn-ca: it has tls.crt and not tls.key");
        assert_eq!(OwnKeyError::NoText(CERTIFICATE).to_string(), "Secret kube-ovn-ca: tls.crt is not PEM");
    }

    #[test]
    fn a_certificate_that_is_gone_is_noticed() {
        let ((one, _), (other, _)) = (Authority::create().unwrap(), Authority::create().unwrap());
        assert_eq!(certificates(&format!("{one}\n{other}")).collect::<Vec<_>>(), [one.trim(), other.trim()]);
        assert_eq!(certificates("").count(), 0);
    }
}
