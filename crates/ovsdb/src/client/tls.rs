//! TLS for `ssl:` endpoints: a certificate of our own, and a server whose certificate our CA has signed.
//!
//! OVN's tools know each other by their CA alone: `ovs-pki` writes no host names into certificates. So a server's chain
//! and signature are checked as always, and the name in its certificate is not.
//!
//! The files are read for each connection, so that a certificate that was renewed is used from the next session on.

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

/// The PEM files that `ssl:` endpoints need, as OVN's own tools take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our private key.
    pub private_key: PathBuf,
    /// Our certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// The certificates of those who may sign a server's.
    pub ca_cert: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{what} {path}: {source}")]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{what} {path}: no certificate in it")]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The CA's certificates cannot be used.
    #[error("CA certificate {path}: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key cannot be used, or not with each other.
    #[error("certificate {certificate} with private key {private_key}: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        private_key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Whether the files are there and fit together, as they are now.
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

/// Checks a server as always, but for its name.
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
        // The name is looked at last, after everything else was found to be right.
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
