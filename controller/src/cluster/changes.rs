//! What counts as a change of each kind of object.

use std::sync::Arc;

use api::annotations::Limits;
use api::{IpPool, Subnet};
use kube::api::ObjectMeta;

use super::objects::{ExternalHost, IpRecord, Namespace, Node, Pod, StatefulSet};
use super::store::{Change, Watched};

/// Kinds that are stored as the fields that decisions depend on.
macro_rules! watched {
    ($kept:ty, $plural:literal, $key:ident, $same:expr) => {
        impl Watched for $kept {
            const PLURAL: &'static str = $plural;

            fn key(&self) -> Arc<str> {
                Arc::clone(&self.$key)
            }

            fn change(&self, before: &Self) -> Change {
                let same: fn(&Self, &Self) -> bool = $same;
                if same(self, before) { Change::Nothing } else { Change::Decides }
            }
        }
    };
}

watched!(Namespace, "namespaces", name, Self::same_for_decisions);
watched!(Node, "nodes", name, Self::eq);
watched!(StatefulSet, "statefulsets", path, Self::eq);
watched!(Pod, "pods", port, Self::same_for_decisions);
watched!(IpRecord, "ips", name, Self::same_for_decisions);

impl Pod {
    /// Compares the fields that decisions depend on. Only a new leader reads the reported addresses.
    fn same_for_decisions(&self, other: &Self) -> bool {
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
            ingress,
            egress,
            mirror,
            north_gateway,
            port_security,
            unreadable,
            unserved,
            net,
            reported: _,
        } = self;
        (port, uid, node, done, member) == (&other.port, &other.uid, &other.node, &other.done, &other.member)
            && (want, port_security, unreadable) == (&other.want, &other.port_security, &other.unreadable)
            && (ingress, egress, north_gateway) == (&other.ingress, &other.egress, &other.north_gateway)
            && (net, unserved, mirror) == (&other.net, &other.unserved, &other.mirror)
    }
}

impl Namespace {
    /// Compares the fields that decisions depend on: all but the resource version.
    fn same_for_decisions(&self, other: &Self) -> bool {
        let Self { name, net, uid, labels, annotations, terminating, version: _ } = self;
        (name, uid, terminating) == (&other.name, &other.uid, &other.terminating)
            && (net, labels, annotations) == (&other.net, &other.labels, &other.annotations)
    }
}

impl IpRecord {
    /// Compares the fields that decisions depend on: all but the resource version.
    fn same_for_decisions(&self, other: &Self) -> bool {
        let Self { name, spec, labelled, reserved, finalizers, terminating, uid, version: _ } = self;
        (name, spec, labelled, reserved) == (&other.name, &other.spec, &other.labelled, &other.reserved)
            && (finalizers, terminating, uid) == (&other.finalizers, &other.terminating, &other.uid)
    }
}

impl Watched for ExternalHost {
    const PLURAL: &'static str = "externalhosts";

    fn key(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    fn change(&self, before: &Self) -> Change {
        let Self { name, uid, made: _, addresses, unreadable, status } = self;
        if (name, uid, addresses, unreadable) != (&before.name, &before.uid, &before.addresses, &before.unreadable) {
            Change::Decides
        } else if *status != before.status {
            Change::Status
        } else {
            Change::Nothing
        }
    }
}

/// Subnets and IPPools are stored as a whole, with the status that the controller writes. `same` compares what decisions
/// about one of the kinds depend on besides.
macro_rules! watched_whole {
    ($kept:ty, $plural:literal, $same:expr) => {
        impl Watched for $kept {
            const PLURAL: &'static str = $plural;

            fn key(&self) -> Arc<str> {
                self.metadata.name.as_deref().unwrap_or_default().into()
            }

            fn change(&self, before: &Self) -> Change {
                let same: fn(&Self, &Self) -> bool = $same;
                let same_metadata = same_metadata(&before.metadata, &self.metadata);
                if before.spec != self.spec || !same_metadata || !same(before, self) {
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

watched_whole!(Subnet, "subnets", |before, now| Limits::of_subnet(before) == Limits::of_subnet(now));
watched_whole!(IpPool, "ippools", |_, _| true);

/// Whether the metadata that decisions about both kinds depend on is equal. Labels, annotations and fields set by the API
/// server do not count.
fn same_metadata(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.uid == b.uid && a.deletion_timestamp == b.deletion_timestamp && a.finalizers == b.finalizers
}
