//! TLS with the keys: both sides have a certificate of the authority, and each looks at who the other one is.
//!
//! Names of hosts are not compared. A client knows a server by its role: only members have certificates for servers.

use std::sync::Arc;
use std::time::Duration;

use kit::once::Once;
use kit::watched::Watched;
use tokio::sync::watch;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ends::Teller;
use crate::held::{HeldError, Keys};
use crate::identity::{Identity, Role};

/// How often it is looked whether a certificate ends soon.
const LOOK: Duration = Duration::from_hours(1);

/// How often a directory of keys that is gone is looked for.
const MISSING: Duration = Duration::from_secs(1);

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// The files do not fit together, or contain something else.
    #[error("the key in {directory}: {why}")]
    Unusable {
        /// The directory of the files.
        directory: String,
        /// The reason.
        why: String,
    },
}

/// The certificate of a client, and those between that and its authority's.
pub type Chain = Vec<CertificateDer<'static>>;

/// Both sides of connections with one key.
#[derive(Clone)]
pub struct Tls {
    /// Accepts connections of clients that have a certificate of the authority.
    pub acceptor: TlsAcceptor,
    /// Connects to members.
    pub connector: TlsConnector,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the keys.
    pub fn read(keys: &Keys) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(keys)?, provider.clone()).build();
        let verifier = verifier.map_err(|error| unusable(keys, &error))?;
        let (client, server) = (client(keys, provider.clone())?, server(keys, provider, verifier.clone())?);
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        Ok(Self { acceptor, connector, verifier })
    }

    /// Returns whether a client with these certificates would be accepted now.
    pub fn trusts(&self, certificates: &Chain) -> bool {
        let verify = |(own, others): (&CertificateDer<'_>, _)| {
            self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
        };
        certificates.split_first().is_some_and(verify)
    }

    /// Reads the keys, and again whenever somebody changes their files or replaces their directory, for as long as the process runs. If
    /// they cannot be used then, the former ones stay.
    pub fn follow(keys: &Keys) -> Result<watch::Receiver<Option<Self>>, TlsError> {
        let mut watched = Watched::of(keys.directory()).map_err(|error| unusable(keys, &error))?;
        let (sender, receiver) = watch::channel(Some(Self::read(keys)?));
        let keys = keys.clone();
        tokio::spawn(async move {
            let (mut said, mut teller) = (Once::default(), Teller::default());
            loop {
                teller.look(&keys);
                let changed = tokio::select! {
                    changed = watched.changed() => changed,
                    () = tokio::time::sleep(LOOK) => continue,
                };
                match changed {
                    Ok(true) => {}
                    // Another directory takes its place, and there is none for a moment.
                    Ok(false) | Err(_) => watched = again(&keys).await,
                }
                match Self::read(&keys) {
                    Ok(tls) => {
                        said.clear();
                        drop(sender.send_replace(Some(tls)));
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if said.is_new(&error) {
                            tracing::warn!(error, "the former key is used");
                        }
                    }
                }
            }
        });
        Ok(receiver)
    }

    /// Returns the name that a client says of a member. Nothing depends on it.
    pub fn name() -> ServerName<'static> {
        ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
    }
}

/// Watches the directory of the keys as soon as there is one again.
async fn again(keys: &Keys) -> Watched {
    loop {
        match Watched::of(keys.directory()) {
            Ok(watched) => return watched,
            Err(_) => tokio::time::sleep(MISSING).await,
        }
    }
}

fn client(keys: &Keys, provider: Arc<CryptoProvider>) -> Result<ClientConfig, TlsError> {
    let unusable = |error: &dyn std::error::Error| unusable(keys, error);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(keys)?, provider.clone()).build();
    let verifier = AnyMember(verifier.map_err(|error| unusable(&error))?);
    let (certificates, key) = own(keys)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(certificates, key)
        .map_err(|error| unusable(&error))?;
    // An ovsdb-server refuses sessions that are resumed.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server(
    keys: &Keys,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let unusable = |error: &dyn std::error::Error| unusable(keys, error);
    let (certificates, key) = own(keys)?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| unusable(&error))
}

fn roots(keys: &Keys) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(keys, &keys.trusted())? {
        roots.add(certificate).map_err(|error| unusable(keys, &error))?;
    }
    Ok(Arc::new(roots))
}

fn own(keys: &Keys) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let path = keys.own();
    let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| unusable(keys, &error))?;
    Ok((certificates(keys, &path)?, key))
}

fn certificates(keys: &Keys, path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    found.map_err(|error| unusable(keys, &error))
}

fn unusable(keys: &Keys, error: &dyn std::error::Error) -> TlsError {
    TlsError::Unusable { directory: keys.directory().display().to_string(), why: error.to_string() }
}

/// Verifies that a certificate is that of a member, whatever its name.
#[derive(Debug)]
struct AnyMember(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyMember {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        // The verifier checks the name last, after every other check passed.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(_) | Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {}
            Err(error) => return Err(error),
        }
        match Identity::of(end_entity) {
            Ok(identity) if identity.role == Role::Member => Ok(ServerCertVerified::assertion()),
            _ => Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
