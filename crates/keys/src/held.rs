//! The key that a program holds, in files that OVN's programs and ours read.

use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::identity::{Identity, IdentityError};

/// A directory with a key. The private key and its certificate are in one file, so that it is replaced as a whole: Open vSwitch
/// reads a changed key only together with a changed certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    directory: PathBuf,
}

/// A certificate, and what is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is.
    pub identity: Identity,
    /// The addresses of a member.
    pub addresses: Vec<IpAddr>,
    /// When to renew it.
    renewal: OffsetDateTime,
    certificate: CertificateDer<'static>,
}

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A file contains no certificate.
    #[error("there is no certificate: {0}")]
    NoCertificate(String),
    /// The certificate is of nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Keys {
    /// Returns the keys in a directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of the file with the private key and its certificate.
    pub fn own(&self) -> PathBuf {
        self.directory.join("tls.pem")
    }

    /// Returns the path of the file with the certificates of the authorities.
    pub fn trusted(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Writes both files, if they differ. Only their owner can read them. `own` is the private key with its certificate, and
    /// `trusted` are the certificates of the authorities.
    pub fn write(&self, own: &str, trusted: &str) -> Result<(), HeldError> {
        self.write_trusted(trusted)?;
        write(&self.own(), own)
    }

    /// Writes the certificates of the authorities, if they differ.
    pub fn write_trusted(&self, trusted: &str) -> Result<(), HeldError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        created.map_err(|source| HeldError::Io { path: self.directory.clone(), source })?;
        write(&self.trusted(), trusted)
    }

    /// Returns the private key and the certificate that are there, as PEM.
    pub(crate) fn text(&self) -> Result<String, HeldError> {
        let path = self.own();
        std::fs::read_to_string(&path).map_err(|source| HeldError::Io { path, source })
    }

    /// Returns the certificate that is there.
    pub fn read(&self) -> Result<Held, HeldError> {
        Held::parse(self.text()?.as_bytes())
    }
}

impl Held {
    /// Takes the first certificate of a PEM.
    pub fn parse(pem: &[u8]) -> Result<Self, HeldError> {
        let certificate =
            CertificateDer::from_pem_slice(pem).map_err(|error| HeldError::NoCertificate(error.to_string()))?;
        let parsed = X509Certificate::from_der(&certificate);
        let (_, parsed) = parsed.map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        let validity = parsed.validity();
        let (from, to) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        let names = parsed.subject_alternative_name().ok().flatten();
        let addresses = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        Ok(Self {
            identity: Identity::of_subject(parsed.subject())?,
            addresses: addresses.collect(),
            renewal: from + (to - from) * 2 / 3,
            certificate: certificate.clone().into_owned(),
        })
    }

    /// Returns true if the authority that signs now, the first in `trusted`, has signed this certificate.
    pub fn is_signed_by_first(&self, trusted: &str) -> bool {
        CertificateDer::from_pem_slice(trusted.as_bytes()).is_ok_and(|authority| self.is_signed_by(&authority))
    }

    fn is_signed_by(&self, authority: &CertificateDer<'_>) -> bool {
        let parsed = (X509Certificate::from_der(authority), X509Certificate::from_der(&self.certificate));
        let (Ok((_, authority)), Ok((_, own))) = parsed else { return false };
        own.issuer() == authority.subject() && own.verify_signature(Some(authority.public_key())).is_ok()
    }

    /// Returns whether the certificate is valid now.
    pub fn is_valid(&self) -> bool {
        X509Certificate::from_der(&self.certificate).is_ok_and(|(_, own)| own.validity().is_valid())
    }

    /// Returns the certificate's public key, as DER.
    pub(crate) fn public_key(&self) -> Option<Vec<u8>> {
        public_key(&self.certificate)
    }

    /// Returns the public key of the first certificate of a PEM, as DER.
    pub(crate) fn public_key_of(pem: &[u8]) -> Option<Vec<u8>> {
        public_key(&CertificateDer::from_pem_slice(pem).ok()?)
    }

    /// Returns the time until the certificate is renewed. `None` if that is over, or the certificate is not valid yet.
    pub fn renewal(&self) -> Option<std::time::Duration> {
        let left: Duration = self.renewal - OffsetDateTime::now_utc();
        left.try_into().ok().filter(|_| self.is_valid())
    }
}

fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    X509Certificate::from_der(certificate).ok().map(|(_, own)| own.public_key().raw.to_vec())
}

fn write(path: &Path, text: &str) -> Result<(), HeldError> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    kit::file::write(path, text.as_bytes(), 0o600).map_err(|source| HeldError::Io { path: path.to_owned(), source })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
