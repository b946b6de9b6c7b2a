//! What the controller gave to a pod or to the node: the addresses in its IP object, in a subnet that is in force. Pure.

use std::net::IpAddr;

use api::{Addresses, Cidrs, EffectiveSubnet, FieldError};
use ipnet::IpNet;

use crate::seen::{Lease, Leases, Seen};

/// The addresses of a pod or of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What the IP object says.
    pub lease: Lease,
    /// The subnet as it is in force. It contains the addresses.
    pub subnet: EffectiveSubnet,
}

/// Why a pod, or the node, has no addresses yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The first lists have not come yet.
    #[error("the {0} are not listed yet")]
    NotListed(&'static str),
    /// There is no IP object.
    #[error("no address yet")]
    NoAddress,
    /// The IP object is for another pod or node with the same name, one that is gone for example.
    #[error("no address yet: ip {0} is still for another one of this name")]
    OtherHolder(String),
    /// The IP object is not readable.
    #[error(transparent)]
    Unreadable(FieldError),
    /// The subnet that the IP object names is not in force.
    #[error("subnet {0} is not in force yet")]
    NotInForce(String),
    /// The subnet does not contain the addresses, because one of the two objects is newer than the other.
    #[error("ip {name}: {ips} is not inside subnet {subnet}, which has {cidrs} in force")]
    Outside {
        /// The IP object.
        name: String,
        /// Its addresses.
        ips: Addresses,
        /// The subnet that it names.
        subnet: String,
        /// The networks in force.
        cidrs: Cidrs,
    },
}

/// Returns the addresses that the IP object `name` has for the Pod or Node with this uid.
pub fn find(leases: &Leases, subnets: &Seen<EffectiveSubnet>, name: &str, uid: &str) -> Result<Allocation, Missing> {
    if !leases.synced {
        return Err(Missing::NotListed("IP objects of this node"));
    }
    let lease = leases.objects.get(name).ok_or(Missing::NoAddress)?;
    let lease = lease.as_ref().map_err(|error| Missing::Unreadable(error.clone()))?;
    if lease.holder != uid {
        return Err(Missing::OtherHolder(name.to_owned()));
    }
    if !subnets.synced {
        return Err(Missing::NotListed("subnets"));
    }
    let subnet = subnets.objects.get(&lease.subnet).ok_or_else(|| Missing::NotInForce(lease.subnet.clone()))?;
    let inside = |ip: &IpAddr| subnet.cidrs.iter().any(|cidr| cidr.contains(*ip));
    if !lease.ips.iter().all(inside) {
        let (name, subnet_name) = (name.to_owned(), subnet.name.clone());
        return Err(Missing::Outside { name, ips: lease.ips, subnet: subnet_name, cidrs: subnet.cidrs });
    }
    Ok(Allocation { lease: lease.clone(), subnet: subnet.clone() })
}

/// Returns whether the IP object now has something else for the holder of this lease.
pub fn has_changed(leases: &Leases, name: &str, lease: &Lease) -> bool {
    matches!(leases.objects.get(name), Some(Ok(now)) if now.holder == lease.holder && now != lease)
}

impl Allocation {
    /// The addresses with the prefix lengths of the subnet, each with the gateway of its network.
    pub fn addresses(&self) -> impl Iterator<Item = (IpNet, IpAddr)> + '_ {
        self.lease.ips.each().filter_map(|(family, ip)| {
            let prefix_len = self.subnet.cidrs.get(family)?.prefix_len();
            Some((IpNet::new(*ip, prefix_len).ok()?, *self.subnet.gateway.get(family)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn lease(holder: &str, ips: &str) -> Lease {
        Lease {
            holder: holder.to_owned(),
            subnet: "net".to_owned(),
            ips: ips.parse().unwrap(),
            mac: "0a:00:00:00:00:05".parse().unwrap(),
            node_addresses: BTreeSet::new(),
        }
    }

    fn leases(lease: Result<Lease, FieldError>) -> Leases {
        Seen { synced: true, objects: [("a.ns".to_owned(), lease)].into() }
    }

    fn subnets(cidrs: &str, gateway: &str) -> Seen<EffectiveSubnet> {
        let subnet = EffectiveSubnet {
            name: "net".to_owned(),
            cidrs: cidrs.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            nat_outgoing: false,
            nat_rules: Vec::new(),
            nat_sources: Vec::new(),
            mtu: None,
            private: false,
            node_network: None,
            nodes: BTreeSet::new(),
        };
        Seen { synced: true, objects: [("net".to_owned(), subnet)].into() }
    }

    #[test]
    fn what_is_missing_is_named() {
        let dual = subnets("10.1.0.0/16,fd01::/64", "10.1.0.1,fd01::1");
        let ours = leases(Ok(lease("uid", "10.1.0.5")));
        let why = |leases: &Leases, subnets: &Seen<EffectiveSubnet>| {
            find(leases, subnets, "a.ns", "uid").unwrap_err().to_string()
        };
        assert_eq!(why(&Seen::default(), &dual), "the IP objects of this node are not listed yet");
        assert_eq!(why(&Seen { synced: true, ..Seen::default() }, &dual), "no address yet");
        let other = leases(Ok(lease("old", "10.1.0.5")));
        assert_eq!(why(&other, &dual), "no address yet: ip a.ns is still for another one of this name");
        let odd = leases(Err(FieldError::new("ip a.ns", "spec.ipAddress", "odd")));
        assert_eq!(why(&odd, &dual), "ip a.ns: spec.ipAddress: odd");
        assert_eq!(why(&ours, &Seen::default()), "the subnets are not listed yet");
        assert_eq!(why(&ours, &Seen { synced: true, ..Seen::default() }), "subnet net is not in force yet");
        let outside = "ip a.ns: 10.1.0.5 is not inside subnet net, which has 10.2.0.0/16 in force";
        assert_eq!(why(&ours, &subnets("10.2.0.0/16", "10.2.0.1")), outside);
        let v4 = subnets("10.1.0.0/16", "10.1.0.1");
        assert!(why(&leases(Ok(lease("uid", "10.1.0.5,fd01::5"))), &v4).contains("is not inside subnet net"));
    }

    #[test]
    fn an_allocation_has_the_families_of_its_addresses() {
        let dual = subnets("10.1.0.0/16,fd01::/64", "10.1.0.1,fd01::1");
        let shown = |ips| {
            let found = find(&leases(Ok(lease("uid", ips))), &dual, "a.ns", "uid").unwrap();
            found.addresses().map(|(address, via)| format!("{address} via {via}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shown("10.1.0.5"), "10.1.0.5/16 via 10.1.0.1");
        assert_eq!(shown("fd01::5,10.1.0.5"), "10.1.0.5/16 via 10.1.0.1, fd01::5/64 via fd01::1");
    }

    #[test]
    fn only_another_lease_of_the_same_holder_is_a_change() {
        let held = lease("uid", "10.1.0.5");
        let changed = |now| has_changed(&leases(now), "a.ns", &held);
        assert!(changed(Ok(lease("uid", "10.1.0.6"))));
        assert!(!changed(Ok(held.clone())) && !changed(Ok(lease("new", "10.1.0.6"))));
        assert!(!changed(Err(FieldError::new("ip a.ns", "spec", "odd"))));
        assert!(!has_changed(&Seen::default(), "a.ns", &held));
    }
}
