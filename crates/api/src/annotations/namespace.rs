//! The annotations of a namespace: the subnet that its author asks for, and the subnets that it is bound to.

use std::collections::BTreeMap;

use super::{
    ALLOW, CIDR, EXCLUDE_IPS, GATEWAY, GATEWAY_NAT, GATEWAY_NODE, GATEWAY_TYPE, IP_POOL, LOGICAL_SWITCH, Limits,
    PRIVATE, Reader,
};
use crate::{
    Addresses, Cidr, Cidrs, FieldError, IpRange, NamespaceView, SubnetDef, SubnetSpec, ValueError,
    subnet_def::gateway_nodes,
};

/// The network settings of a namespace.
///
/// Each part is read separately: an annotation that cannot be read does not affect the others. The controller writes the
/// settings of the bound subnets back to `logical_switch`, `cidr` and `exclude_ips`, so these are a request only as long as
/// no Subnet of that name exists.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceNet {
    /// The names of the subnets, mostly one.
    pub switches: Result<Vec<String>, FieldError>,
    /// The Subnet to create if there is none with the name `switches[0]`. `None` without a `cidr`, and when `switches` cannot
    /// be read.
    pub wanted: Result<Option<SubnetSpec>, FieldError>,
    /// The names of the pools.
    pub pools: Result<Vec<String>, FieldError>,
    /// The default limits of its pods' traffic.
    pub limits: Limits,
}

impl Default for NamespaceNet {
    fn default() -> Self {
        Self { switches: Ok(Vec::new()), wanted: Ok(None), pools: Ok(Vec::new()), limits: Limits::default() }
    }
}

impl NamespaceNet {
    /// Reads the annotations of `namespace`.
    pub fn parse(namespace: &NamespaceView) -> Self {
        let reader = Reader::new(namespace.object(), namespace.annotations());
        let switches = reader.names(LOGICAL_SWITCH, "a subnet");
        let wanted = match &switches {
            // The Subnet has no name. `switches` has the error.
            Err(_) => Ok(None),
            // Only the controller writes the annotations of several subnets.
            Ok(switches) if switches.len() > 1 => Ok(None),
            Ok(_) if reader.text(CIDR).is_none() => Ok(None),
            Ok(switches) if switches.is_empty() => {
                Err(reader.error(CIDR, format_args!("given without {LOGICAL_SWITCH}, the subnet's name")))
            }
            Ok(_) => wanted(&reader, namespace.name()).map(Some),
        };
        Self { switches, wanted, pools: reader.names(IP_POOL, "an IPPool"), limits: Limits::read(&reader) }
    }

    /// The errors of the annotations that cannot be read, in the order of the fields.
    pub fn unreadable(&self) -> impl Iterator<Item = &FieldError> {
        let Self { switches, wanted, pools, limits } = self;
        let addresses = [switches.as_ref().err(), wanted.as_ref().err(), pools.as_ref().err()];
        addresses.into_iter().flatten().chain(&limits.unreadable)
    }
}

fn wanted(reader: &Reader<'_>, namespace: &str) -> Result<SubnetSpec, FieldError> {
    let cidrs: Cidrs = reader.parse(CIDR)?.ok_or_else(|| reader.error(CIDR, "it is empty"))?;
    cidrs.iter().try_for_each(Cidr::check_for_pods).map_err(|e| reader.error(CIDR, e))?;
    let gateway: Option<Addresses> = reader.parse(GATEWAY)?;
    let outside = |address| cidrs.iter().all(|cidr| !cidr.contains(address));
    if let Some(address) = gateway.iter().flat_map(Addresses::iter).find(|address| outside(**address)) {
        return Err(reader.error(GATEWAY, format_args!("{address} is outside {cidrs}")));
    }
    let exclude: Vec<IpRange> = reader.parse_with(EXCLUDE_IPS, list)?.unwrap_or_default();
    if let Some(range) = exclude.iter().find(|range| cidrs.iter().all(|cidr| !range.within(cidr))) {
        return Err(reader.error(EXCLUDE_IPS, format_args!("{range} is not inside {cidrs}")));
    }
    let allow: Vec<Cidr> = reader.parse_with(ALLOW, list)?.unwrap_or_default();
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

/// The annotations of a namespace that is bound to `subnets`, in this order, as kube-ovn writes them.
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
