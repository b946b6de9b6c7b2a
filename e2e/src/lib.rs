//! The lab: a real Kubernetes and OVN cluster on one machine, and what tests need to use it.
//!
//! Nothing here is simulated: etcd, API server, kubelets, containerd, OVN and OVS are the ones of a real cluster; only the
//! machines are namespaces of this one ([`layout`] draws the map). The order of [`up::up`] is the best way into the rest.
//! Tests attach to a lab that is up through [`Cluster`].
//!
//! It is a tool for people at a terminal, so its errors are `anyhow` chains to be read, not values to be matched.

pub mod bench;
pub mod by_hand;
pub mod central;
pub mod cgroup;
pub mod cluster;
pub mod dns;
pub mod down;
pub mod install;
pub mod kube;
pub mod kubelet;
pub mod layout;
pub mod ledger;
pub mod net;
pub mod node;
pub mod operator;
pub mod ours;
pub mod part;
pub mod pki;
pub mod process;
pub mod record;
pub mod rootfs;
pub mod systemd;
pub mod up;

pub use cluster::Cluster;
