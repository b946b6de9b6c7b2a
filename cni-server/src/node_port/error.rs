//! Why `ovn0` is not ready.

use std::net::IpAddr;

use api::FieldError;
use links::LinkError;

use super::DEVICE;
use crate::allocation::Missing;
use crate::node_net::Overlap;
use crate::ovs::OvsError;
use crate::tunnel::TunnelError;

/// Why `ovn0` is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NodePortError {
    /// There is no Node yet.
    #[error("node {0} is not known to Kubernetes yet")]
    NoNode(String),
    /// There is no `ExternalHost`, so the machine is not to join.
    #[error("there is no ExternalHost {0}: an administrator creates it")]
    NoExternalHost(String),
    /// The controller has not given the node an address yet, or its subnet is not in force.
    #[error("node {0} has no address on the join switch yet{1}")]
    NoAddress(String, Reason),
    /// The node's own networks overlap the join subnet.
    #[error("{0}: {DEVICE} gets no address of it")]
    Overlap(Overlap),
    /// The annotation that names the interface cannot be read, and the address of the tunnels is not there.
    #[error("{0}; and no interface has {1}, the address of the tunnels before")]
    Unreadable(FieldError, IpAddr),
    /// There is no tunnel interface, or its MTU does not fit.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Another chassis has the tunnel's address, so other nodes would send to that one.
    #[error("the tunnel's address {address} is that of chassis {chassis}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// The name of the other chassis in the southbound database.
        chassis: String,
    },
    /// Open vSwitch.
    #[error(transparent)]
    Ovs(#[from] OvsError),
    /// The kernel.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The checksum offload of `ovn0` cannot be disabled.
    #[error("turn checksum offload of {DEVICE} off: {0}")]
    Offload(std::io::Error),
    /// ovs-vswitchd has not created the device yet.
    #[error("device {DEVICE} is not there yet: {0}")]
    NoDevice(String),
}

/// Why there is no address, after the words that say so.
#[derive(Debug)]
pub struct Reason(pub(super) Missing);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Missing::NoAddress => Ok(()),
            why => write!(f, ": {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_named() {
        let waits = |why| NodePortError::NoAddress("n1".to_owned(), Reason(why)).to_string();
        assert_eq!(waits(Missing::NoAddress), "node n1 has no address on the join switch yet");
        let expected = "node n1 has no address on the join switch yet: subnet join is not in force yet";
        assert_eq!(waits(Missing::NotInForce("join".to_owned())), expected);
        let taken = NodePortError::Taken { address: "10.0.0.1".parse().unwrap(), chassis: "f63c9655-17dc".to_owned() };
        assert_eq!(taken.to_string(), "the tunnel's address 10.0.0.1 is that of chassis f63c9655-17dc");
        assert_eq!(NodePortError::NoNode("n1".to_owned()).to_string(), "node n1 is not known to Kubernetes yet");
    }
}
