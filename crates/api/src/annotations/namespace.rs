//! A namespace's annotations: the subnet that its author asks for, and the subnets it is bound to.

use std::collections::BTreeMap;

use super::{
    ALLOW, CIDR, EXCLUDE_IPS, GATEWAY, GATEWAY_NAT, GATEWAY_NODE, GATEWAY_TYPE, IP_POOL, LOGICAL_SWITCH, PRIVATE,
    Reader,
};
use crate::{
    Addresses, Cidrs, FieldError, IpRange, NamespaceView, SubnetDef, SubnetSpec, ValueError, subnet_def::gateway_nodes,
};

/// What a namespace says about its network.
///
/// The controller writes `logical_switch`, `cidr` and `exclude_ips` back with what holds, so the same three serve as
/// wish and as result. They are a wish as long as no Subnet of that name exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceNet {
    /// The subnets named, the first one first; mostly one.
    pub switches: Vec<String>,
    /// The Subnet to make, when there is none of the name `switches[0]` yet. None without a `cidr`.
    pub wanted: Option<SubnetSpec>,
    /// The pools named.
    pub pools: Vec<String>,
}

impl NamespaceNet {
    /// Reads the annotations; a namespace without any gives an empty value.
    pub fn parse(namespace: &NamespaceView) -> Result<Self, FieldError> {
        let reader = Reader::new(namespace.object(), namespace.annotations());
        let switches = reader.names(LOGICAL_SWITCH, "a subnet")?;
        let pools = reader.names(IP_POOL, "an IPPool")?;
        // Of several subnets all values are joined, and they are the controller's own.
        if switches.len() > 1 || reader.text(CIDR).is_none() {
            return Ok(Self { switches, wanted: None, pools });
        }
        if switches.is_empty() {
            return Err(reader.error(CIDR, format_args!("given without {LOGICAL_SWITCH}, the subnet's name")));
        }
        Ok(Self { wanted: Some(wanted(&reader, namespace.name())?), switches, pools })
    }
}

fn wanted(reader: &Reader<'_>, namespace: &str) -> Result<SubnetSpec, FieldError> {
    let cidrs: Cidrs = reader.parse(CIDR)?.ok_or_else(|| reader.error(CIDR, "it is empty"))?;
    let gateway: Option<Addresses> = reader.parse(GATEWAY)?;
    let outside = |address| cidrs.iter().all(|cidr| !cidr.contains(address));
    if let Some(address) = gateway.iter().flat_map(Addresses::iter).find(|address| outside(**address)) {
        return Err(reader.error(GATEWAY, format_args!("{address} is outside {cidrs}")));
    }
    let exclude: Vec<IpRange> = reader.parse_with(EXCLUDE_IPS, list)?.unwrap_or_default();
    if let Some(range) = exclude.iter().find(|range| cidrs.iter().all(|cidr| !range.within(cidr))) {
        return Err(reader.error(EXCLUDE_IPS, format_args!("{range} is not inside {cidrs}")));
    }
    let allow: Vec<crate::Cidr> = reader.parse_with(ALLOW, list)?.unwrap_or_default();
    let gateway_type = reader.parse_with(GATEWAY_TYPE, |text| match text {
        "distributed" | "centralized" => Ok(text.to_owned()),
        other => Err(format!("{other:?} is neither distributed nor centralized")),
    })?;
    let gateway_node = reader.parse_with(GATEWAY_NODE, |text| gateway_nodes(text).map(|_| text.to_owned()))?;
    Ok(SubnetSpec {
        default: Some(false),
        protocol: Some(cidrs.protocol().to_owned()),
        namespaces: vec![namespace.to_owned()],
        cidr_block: cidrs.to_string(),
        gateway: gateway.map(|gateway| gateway.to_string()),
        exclude_ips: exclude.iter().map(ToString::to_string).collect(),
        gateway_type: Some(gateway_type.unwrap_or_else(|| "distributed".to_owned())),
        gateway_node,
        nat_outgoing: Some(reader.flag(GATEWAY_NAT)?.unwrap_or(true)),
        private: Some(reader.flag(PRIVATE)?.unwrap_or_default()),
        allow_subnets: allow.iter().map(ToString::to_string).collect(),
        ..SubnetSpec::default()
    })
}

fn list<T: std::str::FromStr<Err = ValueError>>(text: &str) -> Result<Vec<T>, ValueError> {
    text.split(',').filter(|part| !part.trim().is_empty()).map(str::parse).collect()
}

/// The annotations of a namespace that is bound to `subnets`, the first one first, as kube-ovn writes them.
pub fn bound_to(subnets: &[&SubnetDef]) -> BTreeMap<String, String> {
    let join = |separator: &str, value: fn(&SubnetDef) -> String| {
        subnets.iter().map(|subnet| value(subnet)).collect::<Vec<_>>().join(separator)
    };
    let exclude = |subnet: &SubnetDef| subnet.exclude.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    BTreeMap::from(
        [
            (LOGICAL_SWITCH, join(",", |subnet| subnet.name.clone())),
            (CIDR, join(";", |subnet| subnet.cidrs.to_string())),
            (EXCLUDE_IPS, join(";", exclude)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    )
}
