//! A checked pool: the content of an [`crate::IpPool`] as values.

use crate::{Cidr, Cidrs, FieldError, IpPool, IpRange, ValueError};

/// A valid pool. Its addresses may lie outside of its subnet: [`PoolDef::outside`] checks that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDef {
    /// The name of the pool.
    pub name: String,
    /// The subnet that the addresses belong to.
    pub subnet: String,
    /// The addresses.
    pub ranges: Vec<IpRange>,
    /// The namespaces that are bound to the pool.
    pub namespaces: Vec<String>,
}

impl PoolDef {
    /// Reads and checks the spec of `pool`.
    pub fn parse(pool: &IpPool) -> Result<Self, FieldError> {
        let error = |field: &str, why: &str| FieldError::new(pool.object(), format!("spec.{field}"), why);
        let name = pool.metadata.name.clone().unwrap_or_default();
        // A pod's `ip_pool` without a letter is a list of addresses.
        if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let why = "no pod can name it: it reads as an address, a letter is needed";
            return Err(FieldError::new(pool.object(), "metadata.name", why));
        }
        let subnet = pool.spec.subnet.trim();
        if subnet.is_empty() {
            return Err(error("subnet", "it names no subnet"));
        }
        let entries = pool.spec.ips.iter().flat_map(|entry| entry.split(',')).filter(|part| !part.trim().is_empty());
        let ranges: Vec<IpRange> =
            entries.map(entry).collect::<Result<_, _>>().map_err(|e| error("ips", &e.to_string()))?;
        if ranges.is_empty() {
            return Err(error("ips", "it is empty"));
        }
        Ok(Self { name, subnet: subnet.to_owned(), ranges, namespaces: pool.spec.namespaces.clone() })
    }

    /// The first range that is not fully inside one of a subnet's networks.
    pub fn outside(&self, cidrs: &Cidrs) -> Option<&IpRange> {
        self.ranges.iter().find(|range| !cidrs.iter().any(|cidr| range.within(cidr)))
    }
}

/// Parses an address, a range or a CIDR. The range of a CIDR includes its first and its last address.
fn entry(text: &str) -> Result<IpRange, ValueError> {
    if text.contains('/') { text.parse::<Cidr>().map(IpRange::from) } else { text.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpPoolSpec;

    fn parse(subnet: &str, ips: &[&str]) -> Result<PoolDef, String> {
        let ips = ips.iter().map(ToString::to_string).collect();
        let pool = IpPool::new("shop", IpPoolSpec { subnet: subnet.to_owned(), ips, ..IpPoolSpec::default() });
        PoolDef::parse(&pool).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_an_entry() {
        let ips = ["10.16.0.201", " 10.16.0.210/30", "10.16.0.220 .. 10.16.0.230", "fd00::/126", "10.1.0.1,10.1.0.2"];
        let def = parse("net", &ips).unwrap();
        let printed: Vec<String> = def.ranges.iter().map(ToString::to_string).collect();
        let expected = [
            "10.16.0.201",
            "10.16.0.208..10.16.0.211",
            "10.16.0.220..10.16.0.230",
            "fd00::..fd00::3",
            "10.1.0.1",
            "10.1.0.2",
        ];
        assert_eq!(printed, expected);
        assert_eq!(def.outside(&"10.16.0.0/16,fd00::/64".parse().unwrap()), Some(&def.ranges[4]));
        assert_eq!(def.outside(&"10.0.0.0/8,fd00::/64".parse().unwrap()), None);
        assert_eq!(def.outside(&"10.0.0.0/8".parse().unwrap()), Some(&def.ranges[3]));
    }

    #[test]
    fn a_pool_that_no_pod_can_name_is_refused() {
        for name in ["10.16.0.5", "1-2", "0"] {
            let spec =
                IpPoolSpec { subnet: "net".to_owned(), ips: vec!["10.0.0.1".to_owned()], ..IpPoolSpec::default() };
            let error = PoolDef::parse(&IpPool::new(name, spec)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("ippool {name}: metadata.name: no pod can name it")), "{error}");
        }
    }

    #[test]
    fn errors_name_pool_and_field() {
        for (subnet, ips, expected) in [
            ("", vec!["10.0.0.1"], "ippool shop: spec.subnet: it names no subnet"),
            ("net", vec![], "ippool shop: spec.ips: it is empty"),
            ("net", vec![" "], "ippool shop: spec.ips: it is empty"),
            ("net", vec!["10.0.0.1", "10.0.0.300"], "ippool shop: spec.ips: \"10.0.0.300\" is not"),
            ("net", vec!["10.0.0.9..10.0.0.1"], "ippool shop: spec.ips: \"10.0.0.9..10.0.0.1\" is not"),
            ("net", vec!["10.0.0.9..fd00::1"], "ippool shop: spec.ips: \"10.0.0.9..fd00::1\" is not"),
            ("net", vec!["10.0.0.0/33"], "ippool shop: spec.ips: \"10.0.0.0/33\" is not a CIDR"),
        ] {
            let error = parse(subnet, &ips).unwrap_err();
            assert!(error.starts_with(expected), "{ips:?}: {error}");
        }
    }
}
