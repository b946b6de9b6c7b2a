//! The definition of a subnet as text, from which a later leader reads the definition in force.

use super::{AclRule, Collector, GatewayType, SubnetDef};
use crate::SubnetSpec;

impl SubnetDef {
    /// The definition as text: a spec that [`SubnetDef::parse`] reads as an equal definition. It does not include the bound
    /// namespaces, which only the object decides.
    pub fn record(&self) -> String {
        let Self {
            cidrs,
            gateway,
            exclude,
            gateway_type,
            gateway_nodes,
            gateway_node_selectors,
            enable_ecmp,
            nat_outgoing,
            nat_rules,
            private,
            allow_subnets,
            acls,
            remote_mirror,
            node_network,
            default,
            mtu,
            enable_lb,
            router_advertisements,
            disable_gateway_check,
            provider,
            vpc,
            name: _,
            uid: _,
        } = self;
        let nodes: Vec<String> = gateway_nodes.iter().map(ToString::to_string).collect();
        let spec = SubnetSpec {
            cidr_block: cidrs.to_string(),
            gateway: Some(gateway.to_string()),
            exclude_ips: exclude.iter().map(ToString::to_string).collect(),
            gateway_type: (*gateway_type != GatewayType::default()).then(|| gateway_type.to_string()),
            gateway_node: (!nodes.is_empty()).then(|| nodes.join(",")),
            gateway_node_selectors: gateway_node_selectors.clone(),
            enable_ecmp: enable_ecmp.then_some(true),
            nat_outgoing: nat_outgoing.then_some(true),
            nat_outgoing_policy_rules: nat_rules.iter().map(Into::into).collect(),
            private: private.then_some(true),
            allow_subnets: allow_subnets.iter().map(ToString::to_string).collect(),
            acls: acls.iter().map(AclRule::written).collect(),
            remote_mirror: remote_mirror.as_ref().map(Collector::written),
            node_network: node_network.clone(),
            default: default.then_some(true),
            mtu: mtu.map(Into::into),
            enable_lb: (!enable_lb).then_some(false),
            enable_ipv6_ra: router_advertisements.is_some().then_some(true),
            ipv6_ra_configs: router_advertisements.as_ref().map(|options| {
                let options: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
                options.join(",")
            }),
            disable_gateway_check: disable_gateway_check.then_some(true),
            provider: (provider != "ovn").then(|| provider.clone()),
            vpc: (vpc != "ovn-cluster").then(|| vpc.clone()),
            ..SubnetSpec::default()
        };
        // The spec has only strings, numbers, and lists of them and of structs of them, so serialization does not fail.
        serde_json::to_string(&spec).unwrap_or_default()
    }
}

impl SubnetSpec {
    /// Reads the text of [`SubnetDef::record`]; `None` for any other text.
    pub fn from_record(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
