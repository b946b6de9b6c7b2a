//! What an IP object says: who has which addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

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
    /// The own addresses of the node that its traffic to pods can carry. Empty for a pod.
    pub node_addresses: BTreeSet<IpAddr>,
}

impl Lease {
    /// Reads an IP object.
    pub(super) fn read(object: &DeserializeGuard<Ip>) -> Result<Self, FieldError> {
        let ip = object.0.as_ref().map_err(|invalid| {
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            FieldError::new(format!("ip {name}"), "spec", invalid)
        })?;
        let (ips, mac) = ip.lease()?;
        let node_addresses = ip.node_addresses()?;
        Ok(Self { holder: ip.spec.pod_uid.clone(), subnet: ip.spec.subnet.clone(), ips, mac, node_addresses })
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
        assert!(lease.node_addresses.is_empty());
        spec["nodeAddresses"] = serde_json::json!(["172.31.0.1", "fd00:31::1"]);
        assert_eq!(read(&spec).unwrap().node_addresses.len(), 2);
        spec["nodeAddresses"] = serde_json::json!(["172.31.0"]);
        assert!(read(&spec).unwrap_err().starts_with("ip web.shop: spec.nodeAddresses: "));
        spec["ipAddress"] = "10.16.0".into();
        assert!(read(&spec).unwrap_err().starts_with("ip web.shop: spec.ipAddress: "));
        spec["ipAddress"] = 5.into();
        assert!(read(&spec).unwrap_err().starts_with("ip web.shop: spec: "));
        assert!(read(&serde_json::Value::Null).unwrap_err().starts_with("ip web.shop: spec: "));
    }
}
