//! Why a node has no tunnel interface.

use std::net::IpAddr;

use links::LinkError;

/// Why there is no tunnel interface.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The kernel refused a request.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// `--iface` is empty, and no interface has an address of the node.
    #[error("no interface has one of the node's addresses, {node}: name one by --iface; there are {there}")]
    NotOfNode {
        /// The node's addresses in Kubernetes.
        node: String,
        /// The existing interfaces.
        there: String,
    },
    /// No interface matches `--iface`, or the annotation of the Node.
    #[error("{names}: this node has no such interface; there are {there}")]
    Unknown {
        /// Where the names are from, and the names.
        names: String,
        /// The existing interfaces.
        there: String,
    },
    /// The matching interfaces have no address, so other nodes cannot send to them.
    #[error("{names}: {found} has no address")]
    NoAddress {
        /// Where the names are from, and the names.
        names: String,
        /// The matching interfaces.
        found: String,
    },
    /// The address is on the loopback interface, and there is no default route.
    #[error(
        "the node's address {address} is on the loopback interface, and no default route says by which one packets leave"
    )]
    NoWayOut {
        /// The node's address.
        address: IpAddr,
    },
    /// The MTU is too large, so packets between nodes would be lost.
    #[error(
        "--mtu {mtu}: {kind} over interface {iface}, whose MTU is {iface_mtu}, leaves {most} at most; give a smaller one, or 0 for \
         what fits"
    )]
    TooLarge {
        /// The requested MTU.
        mtu: u32,
        /// The encapsulation.
        kind: &'static str,
        /// The name of the interface.
        iface: String,
        /// The MTU of the interface.
        iface_mtu: u32,
        /// The maximum that fits.
        most: u32,
    },
    /// The MTU is too small for pods.
    #[error(
        "--mtu {flag}: it gives pods {mtu}, but they need {least} at least ({kind} over interface {iface}, whose MTU is \
         {iface_mtu})"
    )]
    TooSmall {
        /// The value of `--mtu`.
        flag: u32,
        /// The resulting MTU of pods.
        mtu: u32,
        /// The minimum MTU of pods.
        least: u32,
        /// The encapsulation.
        kind: &'static str,
        /// The name of the interface.
        iface: String,
        /// The MTU of the interface.
        iface_mtu: u32,
    },
}
