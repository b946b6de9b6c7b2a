//! A request that is not answered yet, and as much of it as matters.

use std::cmp::Ordering;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition as Condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use keys::{FORMER, HOLDER};
use kube::ResourceExt;

use super::verdict::Asker;

/// The most bytes of a request, and of the certificate that it renews. Ours have about 500.
const MOST: usize = 8192;

/// A request that is not answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// When it was made.
    pub created: Option<Time>,
    /// Who asks.
    pub asker: Asker,
    /// What is asked for, as PEM. `None` if that is longer than any request of ours.
    pub request: Option<String>,
    /// The node or external host of the chassis, as it says.
    pub holder: Option<String>,
    /// The certificate that it renews, as PEM.
    pub former: Option<String>,
    /// What others have said of it.
    pub conditions: Vec<Condition>,
}

impl Open {
    /// Reads a request. `None` if it is answered.
    pub fn of(request: CertificateSigningRequest) -> Option<Self> {
        let asker = Asker::of(&request);
        let short = |text: &String| text.len() <= MOST;
        let (holder, former) = (request.labels().get(HOLDER), request.annotations().get(FORMER));
        let (holder, former) = (holder.cloned(), former.filter(|text| short(text)).cloned());
        let status = request.status.unwrap_or_default();
        let open = Self {
            name: request.metadata.name.unwrap_or_default(),
            version: request.metadata.resource_version,
            created: request.metadata.creation_timestamp,
            asker,
            request: Some(String::from_utf8_lossy(&request.spec.request.0).into_owned()).filter(short),
            holder,
            former,
            conditions: status.conditions.unwrap_or_default(),
        };
        (status.certificate.is_none() && !open.is("Denied") && !open.is("Failed")).then_some(open)
    }

    /// Returns whether it is approved.
    pub fn is_approved(&self) -> bool {
        self.is("Approved")
    }

    /// Compares by the time at which they were made.
    pub fn by_age(&self, other: &Self) -> Ordering {
        (&self.created, &self.name).cmp(&(&other.created, &other.name))
    }

    fn is(&self, condition: &str) -> bool {
        self.conditions.iter().any(|known| known.type_ == condition)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use kube::core::ObjectMeta;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_matters_is_kept() {
        let request = |length: usize, conditions: &[&str]| {
            let conditions: Vec<_> = conditions.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
            let mut request = CertificateSigningRequest {
                metadata: ObjectMeta { name: Some("one".to_owned()), ..ObjectMeta::default() },
                status: serde_json::from_value(json!({"conditions": conditions})).unwrap(),
                ..CertificateSigningRequest::default()
            };
            request.spec.request = ByteString(vec![b'x'; length]);
            request.annotations_mut().insert(FORMER.to_owned(), "y".repeat(length));
            Open::of(request)
        };
        let open = request(500, &["Approved"]).unwrap();
        assert!(open.is_approved() && open.request.is_some() && open.former.is_some());
        let long = request(MOST + 1, &[]).unwrap();
        assert!(!long.is_approved() && long.request.is_none() && long.former.is_none());
        assert_eq!(request(500, &["Approved", "Failed"]), None);
        assert_eq!(request(500, &["Denied"]), None);
    }
}
