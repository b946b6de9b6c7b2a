//! A checked subnet: the content of a [`crate::Subnet`] as values.

mod acls;
mod mirror;
mod record;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    Addresses, Cidr, Cidrs, Family, FieldError, IpRange, NatRule, Subnet, selector::unknown_operator,
    values::parse_address,
};

pub use acls::{AclAction, AclDirection, AclRule};
pub use mirror::{Collector, MirrorType};

/// The nodes at which the traffic of a subnet's pods leaves the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayType {
    /// Each pod's own node.
    #[default]
    Distributed,
    /// One node for all pods.
    Centralized,
}

impl fmt::Display for GatewayType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Distributed => "distributed",
            Self::Centralized => "centralized",
        })
    }
}

/// A gateway node: `n1`, or `n1:172.30.0.1` with the address that traffic leaves from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayNode {
    /// The name of the node.
    pub node: String,
    /// The address after the colon.
    pub address: Option<IpAddr>,
}

/// The default options of router advertisements, as in kube-ovn.
const ROUTER_ADVERTISEMENTS: &str = "address_mode=dhcpv6_stateful,max_interval=30,min_interval=5,send_periodic=true";

/// A valid subnet. The gateway and the excluded addresses are inside the CIDR of their family.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // each one is a separate switch in the spec
pub struct SubnetDef {
    /// The name of the subnet, which is also the name of its switch.
    pub name: String,
    /// The uid of the object; empty when the API server has not set one.
    pub uid: String,
    /// The networks.
    pub cidrs: Cidrs,
    /// The router's address in each network.
    pub gateway: Addresses,
    /// Addresses that are not chosen for pods. A pod that asks for one of them gets it.
    pub exclude: Vec<IpRange>,
    /// The nodes at which traffic leaves the cluster.
    pub gateway_type: GatewayType,
    /// The gateway nodes in order of preference.
    pub gateway_nodes: Vec<GatewayNode>,
    /// Selectors of the gateway nodes that are chosen by label.
    pub gateway_node_selectors: Vec<LabelSelector>,
    /// Whether pods of a centralized subnet leave by all gateway nodes.
    pub enable_ecmp: bool,
    /// Whether traffic that leaves the cluster is masqueraded.
    pub nat_outgoing: bool,
    /// Which of that traffic is masqueraded: the first rule that matches decides, and without one it is.
    pub nat_rules: Vec<NatRule>,
    /// Whether traffic from other subnets is dropped.
    pub private: bool,
    /// The networks that can reach a private subnet, and that it can reach.
    pub allow_subnets: Vec<Cidr>,
    /// Rules for the packets that pass the switch. No two have the same direction, priority and match.
    pub acls: Vec<AclRule>,
    /// Where copies of the packets of its pods go.
    pub remote_mirror: Option<Collector>,
    /// The network of the nodes that tunnels for this subnet use. `None` means that of their tunnel interfaces.
    pub node_network: Option<String>,
    /// Whether namespaces that are bound to no subnet use this one.
    pub default: bool,
    /// The MTU in bytes. `None` means that it follows from the tunnel.
    pub mtu: Option<u32>,
    /// Whether pods of the subnet can use Services.
    pub enable_lb: bool,
    /// The options of the IPv6 router advertisements, as in OVN's `ipv6_ra_configs`. `None` means that the router sends no
    /// advertisements, as in every subnet without an IPv6 network.
    pub router_advertisements: Option<BTreeMap<String, String>>,
    /// Whether pods start before the gateway has answered.
    pub disable_gateway_check: bool,
    /// The provider; `ovn` for subnets of this controller.
    pub provider: String,
    /// The router that the subnet is attached to.
    pub vpc: String,
}

impl SubnetDef {
    /// Reads and checks the spec of `subnet`.
    pub fn parse(subnet: &Subnet) -> Result<Self, FieldError> {
        let spec = &subnet.spec;
        let error =
            |field: &str, why: &dyn fmt::Display| FieldError::new(subnet.object(), format!("spec.{field}"), why);

        let cidrs: Cidrs = spec.cidr_block.parse().map_err(|e| error("cidrBlock", &e))?;
        cidrs.iter().try_for_each(Cidr::check_for_pods).map_err(|e| error("cidrBlock", &e))?;
        let gateway = gateway(cidrs, text(spec.gateway.as_ref())).map_err(|e| error("gateway", &e))?;
        let exclude = exclude(cidrs, &spec.exclude_ips).map_err(|e| error("excludeIps", &e))?;
        let gateway_type = match text(spec.gateway_type.as_ref()) {
            "" | "distributed" => GatewayType::Distributed,
            "centralized" => GatewayType::Centralized,
            other => {
                return Err(error("gatewayType", &format_args!("{other:?} is neither distributed nor centralized")));
            }
        };
        let gateway_nodes = gateway_nodes(text(spec.gateway_node.as_ref())).map_err(|e| error("gatewayNode", &e))?;
        let nat_rules = NatRule::read(&spec.nat_outgoing_policy_rules).map_err(|(field, why)| error(&field, &why))?;
        let allow_subnets = spec
            .allow_subnets
            .iter()
            .flat_map(|entry| entry.split(','))
            .filter(|part| !part.trim().is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|e: crate::ValueError| error("allowSubnets", &e))?;
        let acls = acls::parse(&spec.acls).map_err(|why| error("acls", &why))?;
        let remote_mirror = spec.remote_mirror.as_ref().map(|written| Collector::parse(written, cidrs)).transpose();
        let remote_mirror = remote_mirror.map_err(|(field, why)| error(field, &why))?;
        let mtu = match spec.mtu.unwrap_or_default() {
            0 => None,
            mtu => {
                // RFC 791 and RFC 8200: with less, an interface has no addresses of the family.
                let (least, of) = if cidrs.get(Family::V6).is_some() { (1280, " with IPv6") } else { (68, "") };
                let fits = u32::try_from(mtu).ok().filter(|mtu| (least..=65535).contains(mtu));
                let why = format!("{mtu} is not between {least} and 65535{of}");
                Some(fits.ok_or_else(|| error("mtu", &why))?)
            }
        };
        let selectors =
            [("namespaceSelectors", &spec.namespace_selectors), ("gatewayNodeSelectors", &spec.gateway_node_selectors)];
        for (field, selectors) in selectors {
            if let Some(odd) = selectors.iter().find_map(unknown_operator) {
                let why = format_args!("operator {odd:?} is none of In, NotIn, Exists and DoesNotExist");
                return Err(error(field, &why));
            }
        }
        let router_advertisements = if spec.enable_ipv6_ra == Some(true) && cidrs.get(Family::V6).is_some() {
            let options = advertisement_options(text(spec.ipv6_ra_configs.as_ref()));
            Some(options.map_err(|e| error("ipv6RAConfigs", &e))?)
        } else {
            None
        };
        let or = |value: &Option<String>, default: &str| match text(value.as_ref()) {
            "" => default.to_owned(),
            given => given.to_owned(),
        };

        Ok(Self {
            name: subnet.metadata.name.clone().unwrap_or_default(),
            uid: subnet.metadata.uid.clone().unwrap_or_default(),
            cidrs,
            gateway,
            exclude,
            gateway_type,
            gateway_nodes,
            gateway_node_selectors: spec.gateway_node_selectors.clone(),
            enable_ecmp: spec.enable_ecmp.unwrap_or_default(),
            nat_outgoing: spec.nat_outgoing.unwrap_or_default(),
            nat_rules,
            private: spec.private.unwrap_or_default(),
            allow_subnets,
            acls,
            remote_mirror,
            node_network: Some(or(&spec.node_network, "")).filter(|name| !name.is_empty()),
            default: spec.default.unwrap_or_default(),
            mtu,
            enable_lb: spec.enable_lb.unwrap_or(true),
            router_advertisements,
            disable_gateway_check: spec.disable_gateway_check.unwrap_or_default(),
            provider: or(&spec.provider, "ovn"),
            vpc: or(&spec.vpc, "ovn-cluster"),
        })
    }

    /// The gateway nodes with an address of their own, from which traffic leaves. Only a centralized subnet has any.
    pub fn nat_sources(&self) -> impl Iterator<Item = &GatewayNode> {
        let centralized = self.gateway_type == GatewayType::Centralized;
        self.gateway_nodes.iter().filter(move |node| centralized && node.address.is_some())
    }

    /// The router's addresses with prefix lengths, for a router port: `10.17.0.1/24`.
    pub fn gateway_networks(&self) -> Vec<String> {
        self.cidrs
            .each()
            .filter_map(|(family, cidr)| self.gateway.get(family).map(|gateway| cidr.with_host(*gateway)))
            .collect()
    }
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", |text| text.trim())
}

/// The gateways in `given`, and the first usable address for each family without one.
fn gateway(cidrs: Cidrs, given: &str) -> Result<Addresses, String> {
    let given: Option<Addresses> =
        if given.is_empty() { None } else { Some(given.parse().map_err(|e: crate::ValueError| e.to_string())?) };
    for (family, address) in given.iter().flat_map(Addresses::each) {
        let cidr = cidrs.get(family).ok_or_else(|| format!("{address}: the subnet has no {family} network"))?;
        if !cidr.contains(*address) {
            return Err(format!("{address} is outside {cidr}"));
        }
        if cidr.kept_back().any(|kept| kept == *address) {
            return Err(match family {
                Family::V4 => format!("{address} is the first or the last address of {cidr}"),
                Family::V6 => format!("{address} is the first address of {cidr}, the anycast address of its routers"),
            });
        }
    }
    Ok(cidrs.map(|cidr| given.and_then(|g| g.get(cidr.family()).copied()).unwrap_or_else(|| cidr.first_usable())))
}

fn exclude(cidrs: Cidrs, entries: &[String]) -> Result<Vec<IpRange>, String> {
    let parts = entries.iter().flat_map(|entry| entry.split(',')).filter(|part| !part.trim().is_empty());
    parts
        .map(|part| {
            let range: IpRange = part.parse().map_err(|e: crate::ValueError| e.to_string())?;
            match cidrs.get(range.family()) {
                Some(cidr) if range.within(cidr) => Ok(range),
                Some(cidr) => Err(format!("{range} is not inside {cidr}")),
                None => Err(format!("{range}: the subnet has no {} network", range.family())),
            }
        })
        .collect()
}

/// Parses `key=value,...`. Empty text gives kube-ovn's default options.
fn advertisement_options(text: &str) -> Result<BTreeMap<String, String>, String> {
    let text = if text.is_empty() { ROUTER_ADVERTISEMENTS } else { text };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some(_) if part.contains(char::is_control) => Err(format!("{part:?} contains a control character")),
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("{part:?} is not key=value")),
        })
        .collect()
}

/// Parses `n1,n2`, or `n1:172.30.0.1,n2:172.30.0.2`.
pub(crate) fn gateway_nodes(text: &str) -> Result<Vec<GatewayNode>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (node, address) = part.split_once(':').map_or((part, None), |(node, address)| (node, Some(address)));
            let address = address.map(parse_address).transpose().map_err(|e| e.to_string())?;
            if node.is_empty() {
                return Err(format!("{part:?} names no node"));
            }
            Ok(GatewayNode { node: node.to_owned(), address })
        })
        .collect()
}

impl fmt::Display for GatewayNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}:{address}", self.node),
            None => f.write_str(&self.node),
        }
    }
}

#[cfg(test)]
mod tests;
