//! The authority that signs all certificates.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::held::Held;
use crate::identity::{Identity, IdentityError, Role};

/// How long the certificate of an authority that the members make is valid.
const OF_AUTHORITY: Duration = Duration::days(3650);

/// How long other certificates are valid. They are renewed after two thirds of it.
const OF_OTHERS: Duration = Duration::days(90);

/// How far the clock of a machine may be behind.
const SKEW: Duration = Duration::hours(1);

/// An authority: a certificate, its private key, and the certificates that everybody trusts.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    trusted: String,
}

/// Why an authority cannot be used, or has not signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Something cannot be parsed, made or signed.
    #[error("{what}: {source}")]
    Unusable {
        /// What.
        what: &'static str,
        /// The error.
        source: rcgen::Error,
    },
    /// The private key is that of another certificate.
    #[error("the authority's private key is not that of its certificate")]
    Mismatch,
    /// The certificate cannot be that of an authority.
    #[error("the certificate of the authority {0}")]
    NoAuthority(&'static str),
    /// One of the certificates that everybody trusts makes no sense.
    #[error("a certificate that everybody trusts cannot be read: {0}")]
    Untrustworthy(String),
}

/// What a `CertificateSigningRequest` asks for.
#[derive(Debug)]
pub struct Request {
    params: CertificateSigningRequestParams,
    /// The public key, as DER.
    public_key: Vec<u8>,
    /// Who asks, by its own words.
    pub identity: Identity,
}

/// Why a request makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It cannot be parsed, or its signature is wrong.
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    /// It names no holder of a key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// How a request begins and ends as PEM.
const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const END: &str = "-----END CERTIFICATE REQUEST-----";

fn on(what: &'static str) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    move |source| AuthorityError::Unusable { what, source }
}

impl Authority {
    /// Makes an authority. Returns its certificate and its private key, both as PEM.
    pub fn create() -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate().map_err(on("make a key"))?;
        let mut params = valid_for(OF_AUTHORITY);
        // The clock of this machine may be ahead, and OpenSSL refuses an authority that is not valid yet.
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "kube-ovn-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(on("sign the certificate of the authority"))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Takes an authority from PEM: its certificate, its private key (PKCS #8), and what everybody trusts beside its
    /// certificate.
    pub fn parse(certificate: &str, key: &str, trusted: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(on("the private key of the authority, which must be PKCS #8"))?;
        let public_key = Held::public_key_of(certificate.as_bytes());
        if public_key.is_none_or(|public_key| public_key != key.subject_public_key_info()) {
            return Err(AuthorityError::Mismatch);
        }
        check(certificate).map_err(AuthorityError::NoAuthority)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(on("the certificate of the authority"))?;
        let trial = KeyPair::generate().map_err(on("make a key"))?;
        let signed = leaf(&Identity::new(Role::Member, "trial")).signed_by(&trial, &issuer);
        let signed = signed.map_err(on("sign a certificate"))?.pem();
        if !Held::parse(signed.as_bytes()).is_ok_and(|held| held.is_signed_by_first(certificate)) {
            return Err(AuthorityError::NoAuthority(
                "has a subject that cannot be repeated in what it signs: it has several attributes of one kind",
            ));
        }
        let mut anchors = RootCertStore::empty();
        for anchor in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
            let untrustworthy = |error: &dyn std::error::Error| AuthorityError::Untrustworthy(error.to_string());
            let anchor = anchor.map_err(|error| untrustworthy(&error))?;
            anchors.add(anchor).map_err(|error| untrustworthy(&error))?;
        }
        let certificate = certificate.trim();
        let others = trusted.replace(certificate, "");
        Ok(Self { issuer, trusted: format!("{certificate}\n{}\n", others.trim()).trim_end().to_owned() + "\n" })
    }

    /// Returns the certificates that everybody trusts as PEM, that of this authority first.
    pub fn trusted(&self) -> &str {
        &self.trusted
    }

    /// Makes a key for a member with these addresses. Returns it with its certificate, as PEM.
    pub fn member(&self, node: &str, addresses: &[IpAddr]) -> Result<String, AuthorityError> {
        let key = KeyPair::generate().map_err(on("make a key"))?;
        let mut params = leaf(&Identity::new(Role::Member, node));
        params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
        let certificate = params.signed_by(&key, &self.issuer).map_err(on("sign a member's certificate"))?;
        Ok(key.serialize_pem() + &certificate.pem())
    }

    /// Signs a request. Of what it asks for, only the identity and the public key are in the certificate. Returns that as PEM.
    pub fn sign(&self, request: Request) -> Result<String, AuthorityError> {
        let Request { mut params, identity, .. } = request;
        params.params = leaf(&identity);
        Ok(params.signed_by(&self.issuer).map_err(on("sign a certificate"))?.pem())
    }
}

impl Request {
    /// Makes a request for a certificate, for this private key or for a new one. Returns the private key and the request, both as
    /// PEM.
    pub fn create(identity: &Identity, key: Option<&str>) -> Result<(String, String), AuthorityError> {
        let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem).map_err(on("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = identity.subject();
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        Ok((key.serialize_pem(), request.map_err(on("make a request"))?))
    }

    /// Parses a request, and verifies that who asks has the private key.
    pub fn parse(pem: &str) -> Result<Self, RequestError> {
        let unreadable = |error: &dyn std::error::Error| RequestError::Unreadable(error.to_string());
        // It is decoded once, and nothing else is in the text: else, what is looked at could be another one than what is signed.
        let text = pem.trim();
        let is_one = text.starts_with(BEGIN) && text.ends_with(END) && text.matches("-----BEGIN").count() == 1;
        if !is_one {
            return Err(RequestError::Unreadable("it is not one certificate request as PEM".to_owned()));
        }
        let (_, raw) = x509_parser::pem::parse_x509_pem(text.as_bytes()).map_err(|error| unreadable(&error))?;
        let (_, parsed) = X509CertificationRequest::from_der(&raw.contents).map_err(|error| unreadable(&error))?;
        let identity = Identity::of_subject(&parsed.certification_request_info.subject)?;
        let public_key = parsed.certification_request_info.subject_pki.raw.to_vec();
        let der = CertificateSigningRequestDer::from(raw.contents.as_slice());
        let params = CertificateSigningRequestParams::from_der(&der).map_err(|error| unreadable(&error))?;
        Ok(Self { params, public_key, identity })
    }

    /// Returns true if this is a valid certificate for the same holder and private key, signed by this authority. One of a former
    /// authority proves nothing, as its key may be known to others.
    pub fn renews(&self, former: &str, authority: &Authority) -> bool {
        Held::parse(former.as_bytes()).is_ok_and(|former| {
            former.identity == self.identity
                && former.public_key() == Some(self.public_key.clone())
                && former.is_valid()
                && former.is_signed_by_first(authority.trusted())
        })
    }
}

/// Checks that a certificate can be that of an authority. OpenSSL refuses others, and rustls does not.
fn check(certificate: &str) -> Result<(), &'static str> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| "cannot be read")?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| "cannot be read")?;
    if !parsed.is_ca() {
        return Err("is not that of an authority: its basic constraints do not have CA:TRUE");
    }
    let (validity, now) = (parsed.validity(), OffsetDateTime::now_utc());
    if validity.not_after.to_datetime() < now {
        return Err("has expired");
    }
    if validity.not_before.to_datetime() > now {
        return Err("is not valid yet: compare its dates with the clock of this machine");
    }
    Ok(())
}

/// Returns the parameters of a certificate that signs no other. Only members are servers.
fn leaf(identity: &Identity) -> CertificateParams {
    let mut params = valid_for(OF_OTHERS);
    params.distinguished_name = identity.subject();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.role == Role::Member {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    params
}

fn valid_for(time: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (now - SKEW, now + time);
    params
}
