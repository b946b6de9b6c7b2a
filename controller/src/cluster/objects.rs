//! The kinds of objects as the controller keeps them: the fields that it reads, parsed once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use api::annotations::{CHASSIS, IP_RESERVED_LABEL};
use api::{
    AddressWant, Addresses, FieldError, Ip, IpPool, IpSpec, NamespaceNet, NamespaceView, NodeView, Placement, PodView,
    PodWant, StatefulSetView, Subnet,
};
use kube::api::ObjectMeta;

use super::store::{Change, Watched};

/// `spec.podType` of an IP that outlives its pod.
pub const STATEFUL_SET: &str = "StatefulSet";

/// A Namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// What its annotations say about its network.
    pub net: NamespaceNet,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Our annotations as they are.
    pub annotations: BTreeMap<String, String>,
    /// Whether its deletion has begun.
    pub terminating: bool,
}

impl Namespace {
    /// Keeps what we read.
    pub fn from_view(view: &NamespaceView) -> Self {
        let ours = |(key, _): &(&String, &String)| key.starts_with("ovn.kubernetes.io/");
        Self {
            name: view.name().into(),
            uid: view.uid().into(),
            net: NamespaceNet::parse(view),
            labels: view.labels().clone(),
            annotations: view.annotations().iter().filter(ours).map(|(k, v)| (k.clone(), v.clone())).collect(),
            terminating: view.is_terminating(),
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
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// Its own addresses.
    pub internal: BTreeSet<IpAddr>,
    /// The place on the join switch that its annotations name.
    pub net: Result<Option<Placement>, FieldError>,
    /// The chassis that its annotations name.
    pub chassis: Option<Arc<str>>,
}

impl Node {
    /// Keeps what we read.
    pub fn from_view(view: &NodeView) -> Self {
        Self {
            name: view.name().into(),
            uid: view.uid().into(),
            made: made(&view.metadata),
            internal: view.internal_ips().collect(),
            net: Placement::of_node(view),
            chassis: view.annotation(CHASSIS).map(Into::into),
        }
    }

    /// The name of its port, its IP and its lease.
    pub fn port(&self) -> Arc<str> {
        api::node_port(&self.name).into()
    }
}

/// A Pod that is bound to a node and wants a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// The name of its port, its IP and its lease: `<pod>.<namespace>`.
    pub port: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// The node that it is bound to.
    pub node: Arc<str>,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// Whether it has ended, so that its address is free.
    pub done: bool,
    /// The stateful set that it belongs to, `<namespace>/<name>`, and its number there.
    pub member: Option<Member>,
    /// What its author wants of its addresses.
    pub want: Result<AddressWant, FieldError>,
    /// Whether it may only send from its own addresses; `None` when the annotation cannot be read.
    pub port_security: Option<bool>,
    /// The annotations that cannot be read.
    pub unreadable: Box<[FieldError]>,
    /// The annotations that ask for something which is not served.
    pub unserved: Box<[&'static str]>,
    /// What its annotations say that it was given.
    pub net: Result<Option<Placement>, FieldError>,
    /// The addresses that kubelet reports of the running pod.
    pub reported: Option<Addresses>,
}

impl Pod {
    /// Keeps what we read; `None` for a pod on the host's network and for one that no node has been chosen for: a pod that
    /// may never run must not hold an address.
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
            want: want.address,
            port_security: want.port_security.ok(),
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

/// One address of each family: kubelet reports no more for a pod.
fn reported(view: &PodView) -> Option<Addresses> {
    let family = |v4| view.pod_ips().find(|ip| ip.is_ipv4() == v4);
    Addresses::from_options(family(true), family(false))
}

/// A place in a stateful set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `<namespace>/<name>` of the set.
    pub set: Arc<str>,
    /// The number in it.
    pub ordinal: usize,
}

/// A stateful set: whose pods are expected to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatefulSet {
    /// `<namespace>/<name>`.
    pub path: Arc<str>,
    /// The numbers of its pods.
    pub ordinals: Range<usize>,
}

impl StatefulSet {
    /// Keeps what we read. One that is being deleted expects no pod back.
    pub fn from_view(view: &StatefulSetView) -> Self {
        let path = format!("{}/{}", view.namespace(), view.name()).into();
        Self { path, ordinals: if view.is_terminating() { 0..0 } else { view.ordinals() } }
    }
}

/// An IP.
#[derive(Debug, Clone, PartialEq)]
pub struct IpRecord {
    /// Its name, a port's name.
    pub name: Arc<str>,
    /// What it says.
    pub spec: IpSpec,
    /// Whether its labels say what its spec says.
    pub labelled: bool,
    /// Whether it outlives its pod, if a label says that.
    pub reserved: Option<bool>,
    /// Its finalizers: those of other controllers, and ours where kube-ovn ran before.
    pub finalizers: Vec<String>,
    /// Whether its deletion has begun.
    pub terminating: bool,
    /// Its uid.
    pub uid: Arc<str>,
    /// Its resource version, which a write that depends on this state names.
    pub version: Arc<str>,
}

impl IpRecord {
    /// The place in a stateful set whose pod's address it records.
    pub fn member(&self) -> Option<Member> {
        let (set, ordinal) = self.spec.pod_name.rsplit_once('-').filter(|_| self.spec.pod_type == STATEFUL_SET)?;
        Some(Member { set: format!("{}/{set}", self.spec.namespace).into(), ordinal: ordinal.parse().ok()? })
    }

    /// Keeps what we read.
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

/// Most kinds are kept as the fields that the controller decides by.
macro_rules! watched {
    ($kept:ty, $plural:literal, $key:ident, $alike:expr) => {
        impl Watched for $kept {
            const PLURAL: &'static str = $plural;

            fn key(&self) -> Arc<str> {
                Arc::clone(&self.$key)
            }

            fn change(&self, before: &Self) -> Change {
                let alike: fn(&Self, &Self) -> bool = $alike;
                if alike(self, before) { Change::Nothing } else { Change::Decides }
            }
        }
    };
}

watched!(Namespace, "namespaces", name, Self::eq);
watched!(Node, "nodes", name, Self::eq);
watched!(StatefulSet, "statefulsets", path, Self::eq);
watched!(Pod, "pods", port, Self::decided_alike);
watched!(IpRecord, "ips", name, Self::decided_alike);

impl Pod {
    /// Nothing is decided by what kubelet reports of a running pod; only a new leader reads it.
    fn decided_alike(&self, other: &Self) -> bool {
        let Self {
            port,
            namespace: _,
            name: _,
            uid,
            node,
            made: _,
            done,
            member,
            want,
            port_security,
            unreadable,
            unserved,
            net,
            reported: _,
        } = self;
        (port, uid, node, done, member) == (&other.port, &other.uid, &other.node, &other.done, &other.member)
            && (want, port_security, unreadable) == (&other.want, &other.port_security, &other.unreadable)
            && (net, unserved) == (&other.net, &other.unserved)
    }
}

impl IpRecord {
    /// Nothing is decided by the version.
    fn decided_alike(&self, other: &Self) -> bool {
        let Self { name, spec, labelled, reserved, finalizers, terminating, uid, version: _ } = self;
        (name, spec, labelled, reserved) == (&other.name, &other.spec, &other.labelled, &other.reserved)
            && (finalizers, terminating, uid) == (&other.finalizers, &other.terminating, &other.uid)
    }
}

/// Subnets and IPPools are kept whole, with the status that the controller writes.
macro_rules! watched_whole {
    ($kept:ty, $plural:literal) => {
        impl Watched for $kept {
            const PLURAL: &'static str = $plural;

            fn key(&self) -> Arc<str> {
                self.metadata.name.as_deref().unwrap_or_default().into()
            }

            fn change(&self, before: &Self) -> Change {
                if before.spec != self.spec || !same_metadata(&before.metadata, &self.metadata) {
                    Change::Decides
                } else if before.status != self.status {
                    Change::Status
                } else {
                    Change::Nothing
                }
            }
        }
    };
}

watched_whole!(Subnet, "subnets");
watched_whole!(IpPool, "ippools");

/// Whether two states of an object have the same metadata as far as the controller decides by it. Labels, annotations and
/// the API server's own fields do not count.
fn same_metadata(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.uid == b.uid && a.deletion_timestamp == b.deletion_timestamp && a.finalizers == b.finalizers
}
