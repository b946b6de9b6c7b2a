//! What is in force for a subnet, as its status shows it to node agents.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::KubeSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{NatOutgoingPolicyRule, NatRule, SubnetStatus, null_is_default, plain, unbounded};
use crate::subnet_def::gateway_nodes;
use crate::{Addresses, Cidr, Cidrs, Family, FieldError, GatewayNode, SubnetDef};

/// What is in force for a subnet: what the controller has last accepted of its spec. It stays when an edit is refused, and
/// while the subnet is being deleted, until no address of it is in use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain, transform = unbounded)]
pub struct InForce {
    /// The `metadata.generation` of the spec that it is from.
    #[serde(default, deserialize_with = "null_is_default")]
    pub generation: i64,
    /// The networks: one for each address family.
    #[serde(default, deserialize_with = "null_is_default")]
    pub networks: Vec<InForceNetwork>,
    /// Whether traffic that leaves the cluster gets the node's address as its source.
    #[serde(default, deserialize_with = "null_is_default")]
    pub nat_outgoing: bool,
    /// Which of that traffic does: the first rule that matches decides, and without one it does.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "null_if_empty")]
    pub nat_rules: Vec<NatOutgoingPolicyRule>,
    /// The nodes at which it gets another address than the node's: `n1:203.0.113.5`.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "null_if_empty")]
    pub nat_sources: Vec<String>,
    /// The MTU that the spec asks for, in bytes; 0: the tunnel's.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mtu: u32,
    /// Whether only allowed networks communicate with the subnet.
    #[serde(default, deserialize_with = "null_is_default")]
    pub private: bool,
    /// The network of the nodes that tunnels use. Absent: that of the tunnel interfaces.
    #[serde(default)]
    pub node_network: Option<String>,
    /// The addresses of the cluster's nodes (`InternalIP`). Only for the nodes' own subnet, join.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "null_if_empty")]
    pub nodes: Vec<String>,
}

/// In a merge patch, null removes the field. Without it, an earlier list would stay.
fn null_if_empty<S: Serializer, T: Serialize>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

/// One network in force.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = plain)]
pub struct InForceNetwork {
    /// The network.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cidr: String,
    /// The router's address in it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub gateway: String,
}

/// A Subnet as node agents see it: what is in force of it, and nothing that its author can write.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, kube::Resource)]
#[resource(inherit = super::Subnet)]
pub struct SubnetView {
    /// Name.
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_is_default")]
    status: StatusView,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusView {
    in_force: Option<InForce>,
}

/// [`InForce`] as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSubnet {
    /// The subnet's name.
    pub name: String,
    /// Its networks.
    pub cidrs: Cidrs,
    /// The router's address in each of them.
    pub gateway: Addresses,
    /// Whether leaving traffic is masqueraded.
    pub nat_outgoing: bool,
    /// Which of it is: the first rule that matches decides, and without one it is.
    pub nat_rules: Vec<NatRule>,
    /// The nodes at which its source becomes another address than the node's.
    pub nat_sources: Vec<GatewayNode>,
    /// MTU in bytes; `None`: the tunnel's.
    pub mtu: Option<u32>,
    /// Whether only allowed networks communicate with it.
    pub private: bool,
    /// The network of the nodes that tunnels use. `None`: that of the tunnel interfaces.
    pub node_network: Option<String>,
    /// The addresses of the cluster's nodes. Only for the nodes' own subnet.
    pub nodes: BTreeSet<IpAddr>,
}

impl InForce {
    /// A subnet that is in force as defined, since that generation of its spec.
    pub fn new(subnet: &SubnetDef, generation: i64) -> Self {
        Self {
            generation,
            networks: networks(&subnet.cidrs, &subnet.gateway),
            nat_outgoing: subnet.nat_outgoing,
            nat_rules: subnet.nat_rules.iter().map(Into::into).collect(),
            nat_sources: subnet.nat_sources().map(ToString::to_string).collect(),
            mtu: subnet.mtu.unwrap_or_default(),
            private: subnet.private,
            node_network: subnet.node_network.clone(),
            nodes: Vec::new(),
        }
    }

    /// Whether another value differs at most in the nodes.
    pub fn has_network_of(&self, other: &Self) -> bool {
        let Self { generation, networks, nat_outgoing, nat_rules, nat_sources, mtu, private, node_network, nodes: _ } =
            self;
        (generation, networks, mtu, private) == (&other.generation, &other.networks, &other.mtu, &other.private)
            && (nat_outgoing, nat_rules, nat_sources) == (&other.nat_outgoing, &other.nat_rules, &other.nat_sources)
            && *node_network == other.node_network
    }

    /// Its values, for the subnet with this name. An error names the field that is not readable.
    pub fn effective(&self, name: &str) -> Result<EffectiveSubnet, FieldError> {
        let error_in = |field: &str, why: &dyn std::fmt::Display| {
            FieldError::new(super::Subnet::object_of(name), format!("status.inForce.{field}"), why)
        };
        let error = |why: &dyn std::fmt::Display| error_in("networks", why);
        let join = |text: fn(&InForceNetwork) -> &str| self.networks.iter().map(text).collect::<Vec<_>>().join(",");
        let cidrs: Cidrs = join(|network| &network.cidr).parse().map_err(|e| error(&e))?;
        let gateway: Addresses = join(|network| &network.gateway).parse().map_err(|e| error(&e))?;
        if !cidrs.families().eq(gateway.families()) {
            return Err(error(&"a network has no gateway of its family"));
        }
        let mtu = Some(self.mtu).filter(|mtu| *mtu != 0);
        let nodes = self.nodes.iter().filter_map(|address| address.parse().ok()).collect();
        let nat_rules = NatRule::read(&self.nat_rules).map_err(|(_, why)| error_in("natRules", &why))?;
        let nat_sources = gateway_nodes(&self.nat_sources.join(",")).map_err(|why| error_in("natSources", &why))?;
        let (name, nat_outgoing, private) = (name.to_owned(), self.nat_outgoing, self.private);
        let node_network = self.node_network.clone();
        Ok(EffectiveSubnet {
            name,
            cidrs,
            gateway,
            nat_outgoing,
            nat_rules,
            nat_sources,
            mtu,
            private,
            node_network,
            nodes,
        })
    }
}

impl From<&EffectiveSubnet> for InForce {
    /// The generation is not known.
    fn from(subnet: &EffectiveSubnet) -> Self {
        Self {
            generation: 0,
            networks: networks(&subnet.cidrs, &subnet.gateway),
            nat_outgoing: subnet.nat_outgoing,
            nat_rules: subnet.nat_rules.iter().map(Into::into).collect(),
            nat_sources: subnet.nat_sources.iter().map(ToString::to_string).collect(),
            mtu: subnet.mtu.unwrap_or_default(),
            private: subnet.private,
            node_network: subnet.node_network.clone(),
            nodes: subnet.nodes.iter().map(ToString::to_string).collect(),
        }
    }
}

fn networks(cidrs: &Cidrs, gateway: &Addresses) -> Vec<InForceNetwork> {
    let network = |(family, cidr): (Family, &Cidr)| InForceNetwork {
        cidr: cidr.to_string(),
        gateway: gateway.get(family).map(ToString::to_string).unwrap_or_default(),
    };
    cidrs.each().map(network).collect()
}

impl SubnetStatus {
    /// Whether anything is in force.
    pub fn is_in_force(&self) -> bool {
        self.in_force.is_some()
    }
}

impl SubnetView {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// What is in force; `None` before the controller has accepted anything of it, and after its end.
    pub fn in_force(&self) -> Result<Option<EffectiveSubnet>, FieldError> {
        self.status.in_force.as_ref().map(|in_force| in_force.effective(self.name())).transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Subnet;

    fn view(status: &Value) -> Result<Option<EffectiveSubnet>, String> {
        let object = json!({ "metadata": { "name": "net" }, "spec": { "cidrBlock": "10.1.0.0/16" }, "status": status });
        serde_json::from_value::<SubnetView>(object).unwrap().in_force().map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_controller_shows_is_what_agents_read() {
        let object = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": "net" },
            "spec": { "cidrBlock": "10.18.0.0/24,fd00:18::/64", "natOutgoing": true, "mtu": 1300, "nodeNetwork": "storage",
                "gatewayType": "centralized", "gatewayNode": "n1:203.0.113.5,n1:2001:db8::5,n2",
                "natOutgoingPolicyRules": [{ "match": { "dstIPs": "192.0.2.0/24" }, "action": "forward" }] },
        });
        let def = SubnetDef::parse(&serde_json::from_value::<Subnet>(object).unwrap()).unwrap();
        let effective = view(&json!({ "inForce": InForce::new(&def, 3) })).unwrap().unwrap();
        assert_eq!((effective.cidrs, effective.gateway), (def.cidrs, def.gateway));
        assert_eq!((effective.nat_outgoing, effective.mtu), (true, Some(1300)));
        assert_eq!(effective.node_network.as_deref(), Some("storage"));
        assert_eq!(effective.nat_rules, def.nat_rules);
        let sources: Vec<_> = effective.nat_sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["n1:203.0.113.5", "n1:2001:db8::5"]);
        let nodes = ["172.30.0.11", "fd00:30::11"].map(|address| address.parse().unwrap());
        let effective = EffectiveSubnet { nodes: nodes.into(), ..effective };
        assert_eq!(InForce::from(&effective).effective("net").unwrap(), effective);
    }

    #[test]
    fn a_spec_alone_is_not_in_force_and_a_status_edited_by_hand_is_an_error() {
        assert_eq!(view(&json!(null)), Ok(None));
        assert_eq!(view(&json!({ "inForce": null })), Ok(None));
        let networks =
            |cidr: &str, gateway: &str| json!({ "inForce": { "networks": [{ "cidr": cidr, "gateway": gateway }] } });
        for (cidr, gateway) in [("10.0.0.0/99", "10.0.0.1"), ("10.0.0.0/8", ""), ("10.0.0.0/8", "fd00::1")] {
            let error = view(&networks(cidr, gateway)).unwrap_err();
            assert!(error.starts_with("subnet net: status.inForce.networks: "), "{error}");
        }
    }
}
