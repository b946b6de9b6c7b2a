//! What an IP object says: who has which addresses.

use api::{Addresses, FieldError, Ip, Mac};
use kube::core::DeserializeGuard;

/// The addresses that the controller gave to a pod or to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The uid of the Pod or of the Node that they are for.
    pub holder: String,
    /// The subnet of the addresses.
    pub subnet: String,
    /// The addresses.
    pub ips: Addresses,
    /// The MAC address.
    pub mac: Mac,
}

impl Lease {
    /// Reads an IP object.
    pub(super) fn read(object: &DeserializeGuard<Ip>) -> Result<Self, FieldError> {
        let ip = object.0.as_ref().map_err(|invalid| {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            FieldError::new(format!("ip {name}"), "spec", invalid)
        })?;
        let (ips, mac) = ip.lease()?;
        Ok(Self { holder: ip.spec.pod_uid.clone(), subnet: ip.spec.subnet.clone(), ips, mac })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &serde_json::Value) -> Result<Lease, String> {
        let object = serde_json::json!({ "metadata": { "name": "web.shop" }, "spec": spec });
        Lease::read(&serde_json::from_value(object).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_object_that_is_not_readable_is_an_error_of_its_own() {
        let mut spec = serde_json::json!({
            "ipAddress": "10.16.0.5,fd00:16::5", "macAddress": "0a:00:00:00:00:05", "subnet": "net", "podUid": "u",
        });
        let lease = read(&spec).unwrap();
        assert_eq!((lease.holder.as_str(), lease.subnet.as_str()), ("u", "net"));
        assert_eq!(
            (lease.ips.to_string(), lease.mac.to_string()),
            ("10.16.0.5,fd00:16::5".to_owned(), "0a:00:00:00:00:05".to_owned())
        );
        spec["ipAddress"] = "10.16.0".into();
        assert!(read(&spec).unwrap_err().starts_with("ip web.shop: spec.ipAddress: "));
        spec["ipAddress"] = 5.into();
        assert!(read(&spec).unwrap_err().starts_with("ip web.shop: spec: "));
        assert!(read(&serde_json::Value::Null).unwrap_err().starts_with("ip web.shop: spec: "));
    }
}
