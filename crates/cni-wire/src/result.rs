//! The result of a successful ADD, in the format of every supported version.
//!
//! [`CniResult`] contains the fields of 1.1.0. [`CniResult::to_json`] omits fields that an older version does not know,
//! and adds `ips[].version` for versions before 1.0.0.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Version;

/// The result of ADD (specification, section 5 "Success").
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// The created interfaces, including host ends.
    pub interfaces: Vec<Interface>,
    /// The assigned addresses.
    pub ips: Vec<Ip>,
    /// The created routes.
    pub routes: Vec<Route>,
    /// The DNS settings. Those of a previous plugin are passed on.
    pub dns: Map<String, Value>,
}

/// An interface in a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interface {
    /// The name.
    pub name: String,
    /// The MAC address, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The MTU in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the network namespace. Empty for a host interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address in a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ip {
    /// The address with its prefix length, for example `10.16.0.5/16`.
    pub address: String,
    /// The default gateway of the address family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The index in `interfaces` of the interface with this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route in a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Route {
    /// The destination, for example `0.0.0.0/0`.
    pub dst: String,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

impl CniResult {
    /// Returns the addresses of a container's interface with their prefix lengths. Skips addresses without an
    /// interface, because their owner is unknown.
    pub fn addresses_of(&self, ifname: &str) -> impl Iterator<Item = &str> {
        let inside = move |interface: &Interface| interface.name == ifname && !interface.sandbox.is_empty();
        let interface = |ip: &Ip| ip.interface.and_then(|at| self.interfaces.get(at));
        self.ips.iter().filter(move |ip| interface(ip).is_some_and(inside)).map(|ip| ip.address.as_str())
    }

    /// Appends our result to this one, as a chained plugin must. Adjusts the interface indexes of our addresses.
    #[must_use]
    pub fn followed_by(mut self, ours: Self) -> Self {
        let shift = self.interfaces.len();
        self.interfaces.extend(ours.interfaces);
        self.ips.extend(ours.ips.into_iter().map(|ip| Ip { interface: ip.interface.map(|i| i + shift), ..ip }));
        self.routes.extend(ours.routes);
        self
    }

    /// Returns the JSON object in the format of `version`.
    pub fn to_json(&self, version: Version) -> String {
        let interfaces: Vec<Interface> = self
            .interfaces
            .iter()
            .map(|i| Interface { mtu: i.mtu.filter(|_| version >= Version::V1_1_0), ..i.clone() })
            .collect();
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let mut value = json!(ip);
                if version < Version::V1_0_0 {
                    value["version"] = json!(if ip.address.contains(':') { "6" } else { "4" });
                }
                value
            })
            .collect();
        json!({
            "cniVersion": version.as_str(), "interfaces": interfaces, "ips": ips, "routes": self.routes, "dns": self.dns,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> CniResult {
        CniResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: "0a:00:00:00:00:01".into(),
                mtu: Some(1400),
                sandbox: "/n".into(),
            }],
            ips: vec![Ip {
                address: "10.16.0.5/16".into(),
                gateway: Some("10.16.0.1".parse().unwrap()),
                interface: Some(0),
            }],
            routes: vec![Route { dst: "0.0.0.0/0".into(), gw: Some("10.16.0.1".parse().unwrap()) }],
            dns: Map::new(),
        }
    }

    #[test]
    fn each_version_has_its_shape() {
        let old: Value = serde_json::from_str(&ours().to_json(Version::V0_3_1)).unwrap();
        assert_eq!((&old["ips"][0]["version"], &old["interfaces"][0]["mtu"]), (&json!("4"), &Value::Null));
        let new: Value = serde_json::from_str(&ours().to_json(Version::V1_1_0)).unwrap();
        assert_eq!((&new["ips"][0]["version"], &new["interfaces"][0]["mtu"]), (&Value::Null, &json!(1400)));
        assert_eq!(new["dns"], json!({}));
    }

    #[test]
    fn addresses_are_those_of_the_containers_interface() {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.to_owned(),
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        };
        let ip = |address: &str, interface| Ip { address: address.to_owned(), gateway: None, interface };
        let result = CniResult {
            interfaces: vec![interface("eth0", ""), interface("eth0", "/ns"), interface("net1", "/ns")],
            ips: vec![
                ip("10.0.0.1/8", Some(0)),
                ip("10.0.0.2/8", Some(1)),
                ip("10.0.0.3/8", Some(2)),
                ip("10.0.0.4/8", None),
                ip("10.0.0.5/8", Some(9)),
                ip("fd00::2/64", Some(1)),
            ],
            ..CniResult::default()
        };
        assert_eq!(result.addresses_of("eth0").collect::<Vec<_>>(), ["10.0.0.2/8", "fd00::2/64"]);
    }

    #[test]
    fn a_previous_result_is_passed_on() {
        let before: CniResult =
            serde_json::from_str(r#"{"cniVersion":"1.0.0","interfaces":[{"name":"lo"}],"dns":{"domain":"x"}}"#)
                .unwrap();
        let both = before.followed_by(ours());
        assert_eq!(both.interfaces.len(), 2);
        assert_eq!(both.ips[0].interface, Some(1));
        assert_eq!(both.dns["domain"], "x");
    }
}
