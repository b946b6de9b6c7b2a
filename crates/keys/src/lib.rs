//! Keys for the OVN databases: who holds one, what it opens, and how it is issued and renewed.
//!
//! One authority signs all certificates. A certificate says who its holder is ([`Identity`]), and the holder's role decides which
//! ports it opens:
//!
//! | Role | Holder | Opens |
//! |---|---|---|
//! | member | `ovn-central` | all ports of other members, and is the only one that clients take for a server |
//! | controller | `kube-ovn-controller` | both databases, without limits |
//! | chassis | `ovn-controller` of a node or an external host, and its agent | the southbound database, as its chassis |
//!
//! The private key of the authority is in a Secret that only the members read. They issue their own certificates. All others
//! ask for one with a `CertificateSigningRequest` of Kubernetes ([`Requester`]), and a member signs it.

mod authority;
mod ends;
mod held;
mod identity;
mod request;
pub mod tls;

pub use authority::{Authority, AuthorityError, Request, RequestError};
pub use ends::{Ends, Teller};
pub use held::{Held, HeldError, Keys};
pub use identity::{Identity, IdentityError, Role};
pub use request::{Readiness, Requester, published};

/// The name of the signer in Kubernetes (`spec.signerName` of a `CertificateSigningRequest`).
pub const SIGNER: &str = "kubeovn.io/ovn-databases";

/// The name of the Secret with the authority, and of the ConfigMap with the certificates that everybody trusts.
pub const AUTHORITY: &str = "kube-ovn-ca";

/// The label of a request with the name of the node or external host whose chassis asks.
pub const HOLDER: &str = "kubeovn.io/holder";

/// The annotation of a request with the certificate that the holder has now, for the same private key.
pub const FORMER: &str = "kubeovn.io/former-certificate";

/// The key of the ConfigMap, and of the Secret, with the certificates that everybody trusts. The first one is that of the
/// authority that signs now.
pub const TRUSTED: &str = "ca.crt";
