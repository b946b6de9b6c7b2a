//! The lab: a real Kubernetes and OVN cluster on one machine, and helpers for tests.
//!
//! etcd, the API server, the kubelets, containerd, OVN and OVS are real. Only the machines are namespaces on this
//! machine; see the diagram in [`layout`]. To read the code, start with [`up::up`]. Tests use a running lab through
//! [`Cluster`].
//!
//! The lab is a tool for interactive use, so its errors are `anyhow` chains and not typed values.

pub mod bare;
pub mod bench;
pub mod by_hand;
pub mod central;
pub mod cgroup;
pub mod cluster;
pub mod control;
pub mod dns;
pub mod down;
pub mod external_host;
pub mod install;
pub mod kube;
pub mod kubelet;
pub mod layout;
pub mod ledger;
pub mod net;
pub mod node;
pub mod operator;
pub mod ours;
pub mod pace;
pub mod part;
pub mod pki;
pub mod process;
pub mod random;
pub mod record;
pub mod rootfs;
pub mod systemd;
pub mod up;

pub use cluster::Cluster;
