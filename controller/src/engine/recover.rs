//! Restores the state of a leader. All recorded addresses are restored before any is assigned.
//!
//! The northbound database is the most trusted source, because an allocation is committed there; then the IP objects;
//! then the annotations. A pod without a record gets a new address. The full comparison that follows removes rows that
//! are no longer needed, so there is no other start-up, repair or garbage collection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use api::annotations::Limit;
use api::{Addresses, FieldError, InForce, Mac, Placement, Subnet, SubnetDef, SubnetSpec};
use ipam::Lease;
use ovn::{Direction, TableId};
use ovsdb::{Replica, Row};

use super::subnets::is_foreign;
use super::{Engine, Install, PodLimits};
use crate::cluster::{Cluster, Object, Pod, PortSecurity};

/// A recorded address.
struct Record {
    subnet: String,
    lease: Lease,
    from: &'static str,
}

impl Engine {
    /// Creates the engine of a new leader from the Kubernetes objects and the database.
    pub fn recover(install: Install, cluster: &Cluster, replica: &Replica) -> Self {
        let mut engine = Self::new(install);
        engine.restore_exits(replica);
        let ours = || cluster.subnets.values().filter(|subnet| !is_foreign(subnet));
        for subnet in ours() {
            engine.restore_subnet(cluster, replica, subnet);
        }
        engine.restore_deleted_subnets(cluster, replica);
        let mut oldest_first: Vec<&Subnet> = ours().collect();
        oldest_first.sort_by_key(|subnet| subnet.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for subnet in oldest_first {
            let name = subnet.metadata.name.as_deref().unwrap_or_default();
            let port = engine.router_port(name);
            // A pod or node has the name of its port already. The subnet was refused for it, and has no addresses to restore.
            let of_pod = cluster.pods.get(&*port).is_some_and(|pod| !pod.done) && is_a_pods(replica, &port);
            let taken = of_pod || is_a_nodes(cluster, &port);
            // The subnet's rows stay until its addresses are restored. Its decision reports errors of the object.
            if engine.subnet(name).is_none() && !taken {
                let _ = engine.enforce(cluster, subnet, false);
            }
        }
        engine.restore_pools(cluster, replica);
        engine.restore_leases(cluster, replica);
        engine.restore_node_addresses(cluster, replica);
        for idle in engine.ineffective_flags(cluster) {
            tracing::warn!("{idle}");
        }
        engine.undecided.extend(cluster.objects());
        engine.undecided.extend(engine.install_subnets());
        engine.decide(cluster);
        engine.recorded_security.clear();
        engine.recorded_north_gateways.clear();
        engine.recorded_mirrored.clear();
        engine.recorded_limits.clear();
        engine
    }

    /// Puts in force what was in force of a subnet before its object is considered. So an invalid edit, or one
    /// that conflicts with another subnet, is refused after a change of leaders as before: running pods keep their
    /// network, excluded addresses stay excluded, and a private subnet stays private.
    fn restore_subnet(&mut self, cluster: &Cluster, replica: &Replica, subnet: &Subnet) {
        let name = subnet.metadata.name.as_deref().unwrap_or_default();
        let port = format!("{}-{name}", self.install.settings.router);
        let shown = subnet.status.as_ref().and_then(|status| status.in_force.as_ref());
        let Some(spec) = in_force_before(replica, &port, subnet, shown) else { return };
        let mut before = Subnet { spec, ..subnet.clone() };
        before.metadata.generation = shown.map(|in_force| in_force.generation);
        if let Err((_, why)) = self.enforce(cluster, &before, true) {
            tracing::error!(subnet = name, why, "what was in force of the subnet cannot stay in force");
        }
    }

    /// Puts subnets in force that are only in the database. Pods may still use a subnet whose object was deleted by
    /// force or given to another provider. The decision about such a subnet removes it if it has no pods.
    fn restore_deleted_subnets(&mut self, cluster: &Cluster, replica: &Replica) {
        for row in replica.rows(TableId::LogicalSwitch.name()).map(|(_, row)| row).filter(|row| ovn::of_kube_ovn(row)) {
            let Some(name) = row.get("name").and_then(|name| name.strs().next()) else { continue };
            let ours = cluster.subnets.get(name).is_some_and(|subnet| !is_foreign(subnet));
            if ours || recorded(replica, name).is_none() {
                continue;
            }
            self.restore_subnet(cluster, replica, &Subnet::new(name, SubnetSpec::default()));
            self.mark(Object::Subnet(name.into()));
        }
    }

    /// Restores addresses, all of the most trusted source first, so that an annotation cannot claim an address that the
    /// database has given to another pod. Within a source in order of name, so that conflicts are always resolved in
    /// the same way.
    fn restore_leases(&mut self, cluster: &Cluster, replica: &Replica) {
        let join = Arc::clone(&self.install.settings.node_switch);
        let machines = || cluster.machines().map(|machine| machine.port());
        // The record of a former pod of the same name does not count, unless both are the same member of a stateful
        // set.
        let own = |port: &Arc<str>, pod: &Pod| {
            let uid = cluster.ips.get(port).map(|ip| ip.spec.pod_uid.as_str()).filter(|uid| !uid.is_empty());
            pod.member.is_some() || uid.is_none_or(|uid| *uid == *pod.uid)
        };
        let pods = || {
            let live = cluster.pods.iter().filter(|(port, pod)| !pod.done && !is_a_nodes(cluster, port));
            live.filter(|(port, pod)| own(port, pod)).map(|(port, pod)| (Arc::clone(port), &pod.net))
        };
        for port in machines() {
            self.restore_lease(&port, from_northbound(replica, &port, Some(&join)));
        }
        // The database can be older than the pods: one that runs with the address of its own IP object keeps it.
        for (port, pod) in cluster.pods.iter().filter(|(port, pod)| !pod.done && !is_a_nodes(cluster, port)) {
            let is_its_own = cluster.ips.get(port).is_some_and(|ip| *ip.spec.pod_uid == *pod.uid);
            let record = from_ip_object(cluster, port).filter(|record| pod.reported == Some(record.lease.ips));
            self.restore_lease(port, record.filter(|_| is_its_own));
        }
        for (port, _) in pods() {
            self.restore_lease(&port, from_northbound(replica, &port, None));
        }
        let ports = || cluster.pods.keys();
        self.recorded_gateways = ports().filter_map(|port| recorded_value(replica, port, plan::GATEWAY)).collect();
        self.recorded_networks = ports().filter_map(|port| recorded_value(replica, port, plan::NETWORKS)).collect();
        let unreadable = cluster.pods.values().filter(|pod| pod.port_security == PortSecurity::Unreadable);
        self.recorded_security = unreadable.filter_map(|pod| port_security(replica, &pod.port)).collect();
        let unreadable = cluster.pods.values().filter(|pod| pod.north_gateway.is_err());
        self.recorded_north_gateways =
            unreadable.filter_map(|pod| recorded_value(replica, &pod.port, plan::NORTH_GATEWAY)).collect();
        let unreadable = cluster.pods.values().filter(|pod| pod.mirror.is_err());
        self.recorded_mirrored =
            unreadable.filter_map(|pod| recorded_value(replica, &pod.port, plan::MIRRORED)).collect();
        self.recorded_limits = recorded_limits(cluster, replica);
        for port in machines().chain(pods().map(|(port, _)| port)) {
            self.restore_lease(&port, from_ip_object(cluster, &port));
        }
        self.restore_reserved(cluster);
        for node in cluster.nodes.values() {
            self.restore_lease(&node.port(), from_annotations(&node.net));
        }
        // Users can write annotations. They only count if kubelet reports that the pod runs with that address.
        for (port, pod) in cluster.pods.iter().filter(|(port, pod)| !pod.done && !is_a_nodes(cluster, port)) {
            self.restore_lease(
                port,
                from_annotations(&pod.net).filter(|record| pod.reported == Some(record.lease.ips)),
            );
        }
    }

    /// Restores the owner of each node address from the database. Other addresses go to the oldest node that has them.
    fn restore_node_addresses(&mut self, cluster: &Cluster, replica: &Replica) {
        let rows = replica.rows(TableId::LogicalRouterPolicy.name()).map(|(_, row)| row);
        for row in rows.filter(|row| ovn::of_kube_ovn(row)) {
            let Some((address, join)) = node_address(row) else { continue };
            let Some(node) = self.ipam.holder(join).and_then(api::node_of_port) else { continue };
            if let Some((name, node)) = cluster.nodes.get_key_value(node)
                && node.internal.contains(&address)
            {
                self.node_addresses.insert(address, Arc::clone(name));
            }
        }
        let mut nodes: Vec<_> = cluster.nodes.values().collect();
        nodes.sort_by_key(|node| (node.made, Arc::clone(&node.name)));
        for node in nodes {
            self.claim_addresses(&node.name, &node.internal);
        }
    }

    /// Restores a port's address unless it is already restored. A record that conflicts with another port's address is
    /// ignored.
    fn restore_lease(&mut self, port: &str, record: Option<Record>) {
        let Some(Record { subnet, lease, from }) = record.filter(|_| self.ipam.lease(port).is_none()) else { return };
        if let Err(refusal) = self.ipam.restore(&subnet, port, lease) {
            tracing::warn!(port, from, ip = %lease.ips, %refusal, "a recorded address is not taken over");
        }
    }

    /// Restores reserved addresses. Their IP objects are the only record.
    fn restore_reserved(&mut self, cluster: &Cluster) {
        for (port, ip) in cluster.ips.iter() {
            let Some(member) = ip.member().filter(|member| cluster.expects(member)) else { continue };
            if cluster.pods.get(port).is_some_and(|pod| !pod.done) || is_a_nodes(cluster, port) {
                continue;
            }
            self.restore_lease(port, from_ip_object(cluster, port));
            self.remember_member(port, &member);
        }
    }

    /// The default and the join subnet, which are created if they do not exist.
    fn install_subnets(&self) -> [Object; 2] {
        [&self.install.default_subnet, &self.install.settings.node_switch].map(|name| Object::Subnet(Arc::clone(name)))
    }
}

/// Whether a port is a node's port. A pod can have the same port name.
fn is_a_nodes(cluster: &Cluster, port: &str) -> bool {
    api::node_of_port(port).is_some_and(|node| cluster.machine(node).is_some())
}

/// The node address that a policy routes, and the address of the node's `ovn0`.
fn node_address(policy: &Row) -> Option<(IpAddr, IpAddr)> {
    let match_ = policy.get("match")?.strs().next()?;
    let address = match_.strip_prefix("ip4.dst == ").or(match_.strip_prefix("ip6.dst == "))?;
    let join = policy.get("nexthops")?.strs().next()?;
    Some((address.parse().ok()?, join.parse().ok()?))
}

/// The address in the port's row. Rows of nodes name no switch; they are on the join switch.
fn from_northbound(replica: &Replica, port: &str, only_subnet: Option<&str>) -> Option<Record> {
    let row = our_row(replica, TableId::LogicalSwitchPort, port)?;
    let subnet = match only_subnet {
        Some(subnet) => subnet,
        None => row.get("external_ids")?.get("ls")?,
    };
    let (mac, ips) = row.get("addresses")?.strs().next()?.split_once(' ')?;
    let lease = Lease { ips: ips.replace(' ', ",").parse::<Addresses>().ok()?, mac: mac.parse::<Mac>().ok()? };
    Some(Record { subnet: subnet.to_owned(), lease, from: "the northbound database" })
}

/// A former gateway or network, the next hop, or whether the pod is mirrored, in the port's row.
fn recorded_value<T: FromStr>(replica: &Replica, port: &Arc<str>, key: &str) -> Option<(Arc<str>, T)> {
    let row = our_row(replica, TableId::LogicalSwitchPort, port)?;
    Some((Arc::clone(port), row.get("external_ids")?.get(key)?.parse().ok()?))
}

/// Whether port security is on in the port's row.
fn port_security(replica: &Replica, port: &Arc<str>) -> Option<(Arc<str>, bool)> {
    let row = our_row(replica, TableId::LogicalSwitchPort, port)?;
    Some((Arc::clone(port), row.get("port_security")?.strs().next().is_some()))
}

/// The limits of the pods that have a port in the database.
fn recorded_limits(cluster: &Cluster, replica: &Replica) -> HashMap<Arc<str>, PodLimits> {
    let has_port = |port: &&Arc<str>| our_row(replica, TableId::LogicalSwitchPort, port).is_some();
    let ports = cluster.pods.keys().filter(has_port);
    let mut limits: HashMap<_, _> = ports.map(|port| (Arc::clone(port), PodLimits::default())).collect();
    for row in replica.rows(TableId::Qos.name()).map(|(_, row)| row).filter(|row| ovn::ours(row)) {
        let Some((port, direction, limit)) = limit(row) else { continue };
        let Some(limits) = limits.get_mut(port) else { continue };
        match direction {
            Direction::ToLport => limits.ingress = Some(limit),
            Direction::FromLport => limits.egress = Some(limit),
        }
    }
    limits
}

/// The port, the direction and the value of a limit.
fn limit(row: &Row) -> Option<(&str, Direction, Limit)> {
    let (field, port) = row.get("match")?.as_str()?.split_once(" == ")?;
    let direction = if field == "outport" { Direction::ToLport } else { Direction::FromLport };
    let bandwidth = row.get("bandwidth")?;
    let number = |name| {
        let mut pairs = bandwidth.pairs();
        let value = pairs.find(|(key, _)| key.as_str() == Some(name))?.1.as_int()?;
        u32::try_from(value).ok()
    };
    Some((port.trim_matches('"'), direction, Limit { rate: number("rate")?, burst: number("burst")? }))
}

/// What was in force of a subnet.
///
/// The status is written after the commit. If it shows the present spec, the database has the same or, restored from a
/// backup, an older one. Otherwise the database counts, and without a record there, the networks in the status.
fn in_force_before(
    replica: &Replica,
    router_port: &str,
    subnet: &Subnet,
    shown: Option<&InForce>,
) -> Option<SubnetSpec> {
    let name = subnet.metadata.name.as_deref().unwrap_or_default();
    let present = shown.filter(|shown| is_of_present_spec(shown, subnet)).map(|_| subnet.spec.clone());
    present
        .or_else(|| recorded(replica, name))
        .or_else(|| networks_alone(replica, router_port, subnet))
        .or_else(|| shown.and_then(shown_networks))
}

/// Whether the status shows what the present spec says. An object that was made anew can have the generation of its
/// namesake, whose networks stay in force.
fn is_of_present_spec(shown: &InForce, subnet: &Subnet) -> bool {
    let same_generation = shown.generation != 0 && Some(shown.generation) == subnet.metadata.generation;
    same_generation && SubnetDef::parse(subnet).is_ok_and(|def| InForce::new(&def, 0).networks == shown.networks)
}

/// The definition that the subnet's switch records.
fn recorded(replica: &Replica, switch: &str) -> Option<SubnetSpec> {
    let row = our_row(replica, TableId::LogicalSwitch, switch)?;
    SubnetSpec::from_record(row.get("external_ids")?.get(plan::IN_FORCE)?)
}

/// The definition of a subnet whose switch records none, as kube-ovn leaves it. The networks and gateways come from the
/// router port, some other fields from the object.
fn networks_alone(replica: &Replica, router_port: &str, subnet: &Subnet) -> Option<SubnetSpec> {
    let row = our_row(replica, TableId::LogicalRouterPort, router_port)?;
    let networks: Vec<&str> = row.get("networks")?.strs().collect();
    let gateways: Vec<&str> = networks.iter().filter_map(|net| net.split_once('/')).map(|(ip, _)| ip).collect();
    with_networks(&networks, &gateways, subnet.spec.nat_outgoing, subnet.spec.private)
}

/// Whether the database has a pod's port with this name.
fn is_a_pods(replica: &Replica, port: &str) -> bool {
    let ids = our_row(replica, TableId::LogicalSwitchPort, port).and_then(|row| row.get("external_ids"));
    ids.is_some_and(|ids| ids.get("pod").is_some())
}

/// The definition of a subnet as far as its status shows it.
fn shown_networks(shown: &InForce) -> Option<SubnetSpec> {
    let cidrs: Vec<&str> = shown.networks.iter().map(|network| network.cidr.as_str()).collect();
    let gateways: Vec<&str> = shown.networks.iter().map(|network| network.gateway.as_str()).collect();
    with_networks(&cidrs, &gateways, Some(shown.nat_outgoing), Some(shown.private))
}

fn with_networks(
    cidrs: &[&str],
    gateways: &[&str],
    nat_outgoing: Option<bool>,
    private: Option<bool>,
) -> Option<SubnetSpec> {
    (!cidrs.is_empty()).then(|| SubnetSpec {
        cidr_block: cidrs.join(","),
        gateway: Some(gateways.join(",")),
        nat_outgoing,
        private,
        ..SubnetSpec::default()
    })
}

fn our_row<'a>(replica: &'a Replica, table: TableId, name: &str) -> Option<&'a Row> {
    let uuid = replica.find(table.name(), name).next()?;
    replica.get(table.name(), uuid).filter(|row| ovn::of_kube_ovn(row))
}

fn from_annotations(net: &Result<Option<Placement>, FieldError>) -> Option<Record> {
    let Placement { switch, ips, mac, .. } = net.as_ref().ok()?.clone()?;
    Some(Record { subnet: switch, lease: Lease { ips, mac }, from: "annotations" })
}

fn from_ip_object(cluster: &Cluster, port: &str) -> Option<Record> {
    let ip = cluster.ips.get(port)?;
    let lease = Lease { ips: ip.spec.ip_address.parse().ok()?, mac: ip.spec.mac_address.parse().ok()? };
    Some(Record { subnet: ip.spec.subnet.clone(), lease, from: "its IP object" })
}
