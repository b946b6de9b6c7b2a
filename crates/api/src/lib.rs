//! The Kubernetes side of the program: CRDs, annotations, views of core objects, and the values in them.
//!
//! This crate is the edge. It parses the text that users write, once, into values that are valid from then on. Every error
//! names the object, the field and the reason. No other library knows Kubernetes types, and this one knows neither OVN nor
//! an async runtime.

pub mod annotations;
mod error;
mod external_host;
mod ip;
mod ippool;
mod label;
mod pool_def;
mod port;
mod selector;
mod subnet;
mod subnet_def;
pub mod values;
mod views;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use annotations::{AddressWant, NamespaceNet, Placement, PodIps, PodWant};
pub use error::FieldError;
pub use external_host::{ExternalHost, ExternalHostSpec, ExternalHostStatus};
pub use ip::{Ip, IpSpec};
pub use ippool::{IpPool, IpPoolSpec, IpPoolStatus, PoolInForce};
pub use label::label_value;
pub use pool_def::PoolDef;
pub use port::{node_of_port, node_port, pod_of_port, pod_port};
pub use selector::selected;
pub use subnet::{
    Condition, EffectiveSubnet, InForce, InForceNetwork, NatOutgoingPolicyMatch, NatOutgoingPolicyRule, NatRule,
    RemoteMirror, Subnet, SubnetAcl, SubnetSpec, SubnetStatus, SubnetView, unserved,
};
pub use subnet_def::{AclAction, AclDirection, AclRule, Collector, GatewayNode, GatewayType, MirrorType, SubnetDef};
pub use values::{Addresses, Cidr, Cidrs, Families, Family, IpRange, Mac, Rate, ValueError};
pub use views::{NamespaceView, NodeAddress, NodeCondition, NodeView, PodView, StatefulSetView};

/// The API group of our CRDs.
pub const GROUP: &str = "kubeovn.io";

/// The finalizer of our custom resources. kube-ovn uses the same one.
pub const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// The definitions of all our custom resources, each with the name of its file in `yamls/crds`.
pub fn crds() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("kubeovn.io_subnets.yaml", Subnet::crd()),
        ("kubeovn.io_ips.yaml", Ip::crd()),
        ("kubeovn.io_ippools.yaml", IpPool::crd()),
        ("kubeovn.io_externalhosts.yaml", ExternalHost::crd()),
    ]
}
