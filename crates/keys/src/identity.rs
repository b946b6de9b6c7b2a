//! Who holds a key, as the subject of its certificate says.

use rcgen::{DistinguishedName, DnType};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// The maximum length of a name: that of the name of a node.
const MOST: usize = 253;

/// What a key is for: the organization in the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server of the databases.
    Member,
    /// The controller, which writes the northbound database.
    Controller,
    /// The chassis of a node or of an external host.
    Chassis,
}

/// The holder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the key is for.
    pub role: Role,
    /// The common name: the name of the member's node, or of the chassis. The southbound database compares it with the names
    /// of chassis (ovn-sb(5), `RBAC_Role`).
    pub name: String,
}

/// Why a subject names no holder.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// The organization is none of ours, or there are several.
    #[error(
        "the subject {0:?} has not one of the organizations kube-ovn:members, kube-ovn:controllers, kube-ovn:chassis"
    )]
    Role(String),
    /// There is not exactly one name, or it has unusual characters.
    #[error("the subject {0:?} has not one common name of at most {MOST} letters, digits and . _ -")]
    Name(String),
}

impl Role {
    const ALL: [Self; 3] = [Self::Member, Self::Controller, Self::Chassis];

    /// Returns the organization in the subject.
    pub fn organization(self) -> &'static str {
        match self {
            Self::Member => "kube-ovn:members",
            Self::Controller => "kube-ovn:controllers",
            Self::Chassis => "kube-ovn:chassis",
        }
    }
}

impl Identity {
    /// Returns the holder with this role and name.
    pub fn new(role: Role, name: &str) -> Self {
        Self { role, name: name.to_owned() }
    }

    /// Returns the holder of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let parsed =
            X509Certificate::from_der(certificate).map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        Self::of_subject(parsed.1.subject())
    }

    /// Returns the holder that a subject names.
    pub(crate) fn of_subject(subject: &X509Name<'_>) -> Result<Self, IdentityError> {
        let organizations: Vec<_> = subject.iter_organization().map(|one| one.as_str().unwrap_or_default()).collect();
        let names: Vec<_> = subject.iter_common_name().map(|one| one.as_str().unwrap_or_default()).collect();
        let role = Role::ALL.into_iter().find(|role| organizations == [role.organization()]);
        let role = role.ok_or_else(|| IdentityError::Role(subject.to_string()))?;
        // Open vSwitch reads a name up to the first NUL.
        let is_usual = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match names[..] {
            [name] if (1..=MOST).contains(&name.len()) && name.bytes().all(is_usual) => Ok(Self::new(role, name)),
            _ => Err(IdentityError::Name(subject.to_string())),
        }
    }

    /// Returns the subject of the certificate.
    pub(crate) fn subject(&self) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, self.role.organization());
        subject.push(DnType::CommonName, self.name.as_str());
        subject
    }
}
