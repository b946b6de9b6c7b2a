//! Announces the MAC address of a new holder of an address, because neighbors may have cached that of an earlier
//! holder.
//!
//! The frames are not sent from the pod. The agent passes them to Open vSwitch as if the pod's port had sent them (an
//! `OpenFlow` packet-out into the pipeline). A frame that arrives at a port creates a flow in the datapath's cache. For
//! a flooded frame, this flow names every port of the subnet, stays for ten seconds, and is translated again whenever a
//! port is added. With one such flow for each new pod, the time to add a port would grow with the number of ports. A
//! packet-out creates no flow.

mod frame;

use api::{Addresses, Mac};

use crate::openflow::{Management, OpenFlowError};

/// Announces addresses from the port with this `OpenFlow` number, with gratuitous ARP and unsolicited neighbor advertisements.
/// On return, the frames are in the pipeline.
pub async fn announce(bridge: &Management, ofport: u32, mac: Mac, ips: &Addresses) -> Result<(), OpenFlowError> {
    let frames: Vec<_> = ips.iter().map(|ip| frame::announcement(mac, *ip)).collect();
    bridge.packets_out(ofport, &frames).await
}
