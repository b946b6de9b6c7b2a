//! The stored form of each kind: the fields that the controller reads, parsed once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use api::annotations::{CHASSIS, IP_RESERVED_LABEL, LimitWant, NodeWant};
use api::{
    AddressWant, Addresses, ExternalHostStatus, FieldError, Ip, IpSpec, NamespaceNet, NamespaceView, NodeView,
    Placement, PodView, PodWant, StatefulSetView,
};
use kube::api::ObjectMeta;

/// `spec.podType` of an IP of a stateful set's pod, which outlives the pod.
pub const STATEFUL_SET: &str = "StatefulSet";

/// A Namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// The network settings from its annotations.
    pub net: NamespaceNet,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `ovn.kubernetes.io/` annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether its deletion has begun.
    pub terminating: bool,
    /// Its resource version, used as a precondition of writes: its annotations are also what users wish.
    pub version: Arc<str>,
}

impl Namespace {
    /// Extracts the stored fields.
    pub fn from_view(view: &NamespaceView) -> Self {
        let ours = |(key, _): &(&String, &String)| key.starts_with("ovn.kubernetes.io/");
        Self {
            name: view.name().into(),
            uid: view.uid().into(),
            net: NamespaceNet::parse(view),
            labels: view.labels().clone(),
            annotations: view.annotations().iter().filter(ours).map(|(k, v)| (k.clone(), v.clone())).collect(),
            terminating: view.is_terminating(),
            version: view.resource_version().into(),
        }
    }
}

/// A Node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its creation time, in seconds since 1970.
    pub made: i64,
    /// Its `InternalIP` addresses.
    pub internal: BTreeSet<IpAddr>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether its condition `NetworkUnavailable` is false.
    pub has_network: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The address on the join switch in its annotations.
    pub net: Result<Option<Placement>, FieldError>,
    /// The chassis in its annotations.
    pub chassis: Option<Arc<str>>,
    /// The annotations that cannot be read. The agent reads the others.
    pub unreadable: Box<[FieldError]>,
}

impl Node {
    /// Extracts the stored fields.
    pub fn from_view(view: &NodeView) -> Self {
        Self {
            name: view.name().into(),
            uid: view.uid().into(),
            made: made(&view.metadata),
            internal: view.internal_ips().collect(),
            ready: view.is_ready(),
            has_network: view.has_network(),
            labels: view.labels().clone(),
            net: Placement::of_node(view),
            chassis: view.annotation(CHASSIS).map(Into::into),
            unreadable: NodeWant::parse(view).unreadable().cloned().collect(),
        }
    }

    /// The name of the node's port, IP and lease.
    pub fn port(&self) -> Arc<str> {
        api::node_port(&self.name).into()
    }
}

/// An `ExternalHost`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalHost {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its creation time, in seconds since 1970.
    pub made: i64,
    /// Its own addresses. None if they cannot be read.
    pub addresses: BTreeSet<IpAddr>,
    /// Why they cannot be read.
    pub unreadable: Option<FieldError>,
    /// Its status, which the controller writes.
    pub status: ExternalHostStatus,
}

impl ExternalHost {
    /// Extracts the stored fields.
    pub fn from_object(host: api::ExternalHost) -> Self {
        let addresses = host.addresses();
        Self {
            made: made(&host.metadata),
            unreadable: addresses.as_ref().err().cloned(),
            addresses: addresses.unwrap_or_default(),
            name: host.metadata.name.unwrap_or_default().into(),
            uid: host.metadata.uid.unwrap_or_default().into(),
            status: host.status.unwrap_or_default(),
        }
    }
}

/// What has an `ovn0`: a Node or an external host.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its uid.
    pub uid: &'a Arc<str>,
    /// Its creation time, in seconds since 1970.
    pub made: i64,
    /// Its own addresses.
    pub addresses: &'a BTreeSet<IpAddr>,
    /// Whether it is an external host.
    pub external: bool,
}

impl Machine<'_> {
    /// Its name in messages: `node <name>` or `external host <name>`.
    pub fn object(&self) -> String {
        format!("{} {}", if self.external { "external host" } else { "node" }, self.name)
    }

    /// The name of its port, IP and lease.
    pub fn port(&self) -> Arc<str> {
        api::node_port(self.name).into()
    }
}

impl<'a> From<&'a Node> for Machine<'a> {
    fn from(Node { name, uid, made, internal, .. }: &'a Node) -> Self {
        Self { name, uid, made: *made, addresses: internal, external: false }
    }
}

impl<'a> From<&'a ExternalHost> for Machine<'a> {
    fn from(ExternalHost { name, uid, made, addresses, .. }: &'a ExternalHost) -> Self {
        Self { name, uid, made: *made, addresses, external: true }
    }
}

/// What the annotation of a pod says about port security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSecurity {
    /// Nothing: the installation decides.
    Unset,
    /// The pod can send only from its own addresses.
    On,
    /// It can send from all addresses.
    Off,
    /// It cannot be read: what was in force stays.
    Unreadable,
}

/// A Pod that is bound to a node and needs a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// The name of its port, IP and lease: `<pod>.<namespace>`.
    pub port: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// The node that it is bound to.
    pub node: Arc<str>,
    /// Its creation time, in seconds since 1970.
    pub made: i64,
    /// Whether it has terminated, so that its address is free.
    pub done: bool,
    /// The stateful set that owns it, and its ordinal there.
    pub member: Option<Member>,
    /// The address that its annotations ask for.
    pub want: Result<AddressWant, FieldError>,
    /// The limit of traffic into it that its annotations ask for.
    pub ingress: LimitWant,
    /// The limit of traffic out of it.
    pub egress: LimitWant,
    /// Whether its packets are mirrored.
    pub mirror: Result<Option<bool>, FieldError>,
    /// The next hop of its traffic that leaves the cluster.
    pub north_gateway: Result<Option<Addresses>, FieldError>,
    /// What its annotation says about port security.
    pub port_security: PortSecurity,
    /// The annotations that cannot be read.
    pub unreadable: Box<[FieldError]>,
    /// The annotations that ask for an unsupported feature.
    pub unserved: Box<[&'static str]>,
    /// The address in its annotations, which the controller writes.
    pub net: Result<Option<Placement>, FieldError>,
    /// The addresses in its status, reported by kubelet.
    pub reported: Option<Addresses>,
}

impl Pod {
    /// Extracts the stored fields. Returns `None` for a pod on the host network and for a pod without a node: it may
    /// never run, so it must not hold an address.
    pub fn from_view(view: &PodView) -> Option<Self> {
        let node = view.node_name().filter(|_| view.wants_network())?;
        let want = PodWant::parse(view);
        Some(Self {
            port: view.port_name().into(),
            namespace: view.namespace().into(),
            name: view.name().into(),
            uid: view.uid().into(),
            node: node.into(),
            made: made(&view.metadata),
            done: view.is_done(),
            member: view
                .stateful_set()
                .map(|(set, ordinal)| Member { set: format!("{}/{set}", view.namespace()).into(), ordinal }),
            unreadable: want.unreadable().cloned().collect(),
            unserved: api::annotations::unserved(view).collect(),
            ingress: want.limits.ingress,
            egress: want.limits.egress,
            want: want.address,
            mirror: want.mirror,
            north_gateway: want.north_gateway,
            port_security: match want.port_security {
                Ok(None) => PortSecurity::Unset,
                Ok(Some(true)) => PortSecurity::On,
                Ok(Some(false)) => PortSecurity::Off,
                Err(_) => PortSecurity::Unreadable,
            },
            net: Placement::of_pod(view),
            reported: reported(view),
        })
    }

    /// `<namespace>/<name>`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn made(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// One address of each family. Kubelet reports no more than that.
fn reported(view: &PodView) -> Option<Addresses> {
    let family = |v4| view.pod_ips().find(|ip| ip.is_ipv4() == v4);
    Addresses::from_options(family(true), family(false))
}

/// An ordinal of a stateful set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `<namespace>/<name>` of the set.
    pub set: Arc<str>,
    /// The ordinal.
    pub ordinal: usize,
}

/// A stateful set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatefulSet {
    /// `<namespace>/<name>`.
    pub path: Arc<str>,
    /// The ordinals of its pods.
    pub ordinals: Range<usize>,
}

impl StatefulSet {
    /// Extracts the stored fields. A set that is being deleted expects no pods.
    pub fn from_view(view: &StatefulSetView) -> Self {
        let path = format!("{}/{}", view.namespace(), view.name()).into();
        Self { path, ordinals: if view.is_terminating() { 0..0 } else { view.ordinals() } }
    }
}

/// An IP.
#[derive(Debug, Clone, PartialEq)]
pub struct IpRecord {
    /// Its name, which is the name of a port.
    pub name: Arc<str>,
    /// Its spec.
    pub spec: IpSpec,
    /// Whether its labels match its spec.
    pub labelled: bool,
    /// Whether it outlives its pod, according to its label.
    pub reserved: Option<bool>,
    /// Its finalizers: those of other controllers, and those of an earlier kube-ovn.
    pub finalizers: Vec<String>,
    /// Whether its deletion has begun.
    pub terminating: bool,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its resource version, used as a precondition of writes.
    pub version: Arc<str>,
}

impl IpRecord {
    /// The stateful set and ordinal of the pod whose address it records.
    pub fn member(&self) -> Option<Member> {
        let (set, ordinal) = self.spec.pod_name.rsplit_once('-').filter(|_| self.spec.pod_type == STATEFUL_SET)?;
        Some(Member { set: format!("{}/{set}", self.spec.namespace).into(), ordinal: ordinal.parse().ok()? })
    }

    /// Extracts the stored fields.
    pub fn from_object(ip: Ip) -> Self {
        let labels = ip.metadata.labels.unwrap_or_default();
        let labelled =
            ip.spec.labels().iter().all(|(key, value)| labels.get(key.as_ref()).is_some_and(|label| label == value));
        Self {
            name: ip.metadata.name.unwrap_or_default().into(),
            labelled,
            reserved: labels.get(IP_RESERVED_LABEL).and_then(|value| value.parse().ok()),
            spec: ip.spec,
            finalizers: ip.metadata.finalizers.unwrap_or_default(),
            terminating: ip.metadata.deletion_timestamp.is_some(),
            uid: ip.metadata.uid.unwrap_or_default().into(),
            version: ip.metadata.resource_version.unwrap_or_default().into(),
        }
    }
}
