//! TLS for `ssl:` endpoints: the client has a certificate, and the server needs a certificate signed by the configured
//! CA.
//!
//! OVN's tools authenticate each other by CA only, because `ovs-pki` writes no host names into certificates. The client
//! therefore verifies the server's chain and signature, but not the name in its certificate.
//!
//! The client reads the files for each connection, so the next session uses a renewed certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// The PEM files for `ssl:` endpoints, the same that OVN's own tools take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The client's private key.
    pub private_key: PathBuf,
    /// The client's certificate, followed by intermediate certificates if there are any.
    pub certificate: PathBuf,
    /// The certificates of the CAs that may sign a server's certificate.
    pub ca_cert: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or parsed.
    #[error("{what} {path}: {source}")]
    File {
        /// What the file should contain.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: pem::Error,
    },
    /// A file contains no certificate.
    #[error("{what} {path}: no certificate in it")]
    Empty {
        /// What the file should contain.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The CA's certificates cannot be used.
    #[error("CA certificate {path}: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// The error.
        reason: String,
    },
    /// The certificate or the key is unusable, or they do not match.
    #[error("certificate {certificate} with private key {private_key}: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        private_key: PathBuf,
        /// The error.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Checks that the current files exist and match.
    pub fn check(&self) -> Result<(), TlsError> {
        self.connector().map(drop)
    }

    /// Reads the files.
    pub(super) fn connector(&self) -> Result<TlsConnector, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = |reason: String| TlsError::Ca { path: self.ca_cert.clone(), reason };
        for certificate in certificates("CA certificate", &self.ca_cert)? {
            roots.add(certificate).map_err(|error| ca(error.to_string()))?;
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let chain = chain.build().map_err(|error| ca(error.to_string()))?;

        let certificate = certificates("certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.private_key).map_err(|source| TlsError::File {
            what: "private key",
            path: self.private_key.clone(),
            source,
        })?;
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.clone(),
            private_key: self.private_key.clone(),
            source,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(chain)))
            .with_client_auth_cert(certificate, key)
            .map_err(pair)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File { what, path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Empty { what, path: path.to_owned() }),
        found => found.map_err(wrong),
    }
}

/// Verifies a server's certificate, except for the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
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
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
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
