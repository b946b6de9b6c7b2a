//! `ovn.kubernetes.io/routes`: more routes of a pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::{ROUTES, Reader};
use crate::FieldError;
use crate::values::parse_net;

/// A route of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRoute {
    /// The destination.
    pub to: IpNet,
    /// The next hop, of the same family.
    pub via: IpAddr,
}

/// One element of the annotation, as in kube-ovn.
#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    dst: String,
    #[serde(default)]
    gw: String,
}

impl PodRoute {
    /// The largest number of routes.
    const MOST: usize = 64;

    /// Reads the annotation of a pod: `[{"dst": "192.0.2.0/24", "gw": "10.16.0.9"}]`. Without `dst`, it is a default route.
    /// `object` is the name of the pod for the error.
    pub fn read(object: String, annotations: &BTreeMap<String, String>) -> Result<Vec<Self>, FieldError> {
        let parsed = Reader::new(object, annotations).parse_with(ROUTES, |text| {
            let elements: Vec<Element> =
                serde_json::from_str(text).map_err(|error| format!("not a list of routes in JSON: {error}"))?;
            if elements.len() > Self::MOST {
                return Err(format!("{} routes are more than {}", elements.len(), Self::MOST));
            }
            elements.iter().map(Self::of).collect()
        });
        parsed.map(Option::unwrap_or_default)
    }

    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }

    /// The default route by this next hop.
    pub fn default_by(via: IpAddr) -> Self {
        let to = match via {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        Self { to, via }
    }

    fn of(Element { dst, gw }: &Element) -> Result<Self, String> {
        let via: IpAddr = gw.trim().parse().map_err(|_| format!("gw {gw:?} is not an address"))?;
        let to = match dst.trim() {
            "" | "default" => return Ok(Self::default_by(via)),
            text => parse_net(text).map_err(|why| format!("dst {why}"))?,
        };
        if to.addr().is_ipv4() == via.is_ipv4() {
            Ok(Self { to, via })
        } else {
            Err(format!("dst {dst:?} and gw {gw:?} are of two families"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let annotations = [(ROUTES.to_owned(), text.to_owned())].into();
        let routes = PodRoute::read("pod ns/web".to_owned(), &annotations).map_err(|error| error.to_string())?;
        Ok(routes.iter().map(|PodRoute { to, via }| format!("{to} via {via}")).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn routes_are_read_as_kube_ovn_writes_them() {
        for (text, expected) in [
            ("", ""),
            ("[]", ""),
            (
                r#"[{"dst":"192.0.2.9/24","gw":"10.16.0.9"},{"gw":"fd00::9"}]"#,
                "192.0.2.0/24 via 10.16.0.9; ::/0 via fd00::9",
            ),
            (
                r#"[{"dst":"192.0.2.9","gw":"10.16.0.9"},{"dst":"default","gw":"10.16.0.8"}]"#,
                "192.0.2.9/32 via 10.16.0.9; 0.0.0.0/0 via 10.16.0.8",
            ),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            (r#"[{"dst":"192.0.2.0/24"}]"#, "gw \"\" is not an address"),
            (
                r#"[{"dst":"192.0.2.0/33","gw":"10.16.0.9"}]"#,
                "dst \"192.0.2.0/33\" is neither an address nor a network",
            ),
            (r#"[{"dst":"fd00::/64","gw":"10.16.0.9"}]"#, "dst \"fd00::/64\" and gw \"10.16.0.9\" are of two families"),
        ] {
            assert_eq!(read(text), Err(format!("pod ns/web: annotation ovn.kubernetes.io/routes: {expected}")));
        }
        assert!(read("192.0.2.0/24 via 10.16.0.9").unwrap_err().contains("routes: not a list of routes in JSON: "));
        assert!(
            read(&format!("[{}]", vec![r#"{"gw":"10.0.0.1"}"#; 65].join(",")))
                .unwrap_err()
                .contains("65 routes are more")
        );
    }
}
