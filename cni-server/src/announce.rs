//! Announces the MAC address of a new holder of an address, because neighbors may have cached that of an earlier
//! holder.
//!
//! The frames are not sent from the pod. The agent passes them to Open vSwitch as if the pod's port had sent them (an
//! `OpenFlow` packet-out into the pipeline). A frame that arrives at a port creates a flow in the datapath's cache. For
//! a flooded frame, this flow names every port of the subnet, stays for ten seconds, and is translated again whenever a
//! port is added. With one such flow for each new pod, the time to add a port would grow with the number of ports. A
//! packet-out creates no flow.

mod frame;
mod openflow;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Addresses, Mac};
use tokio::net::UnixStream;

/// Why an announcement failed.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The bridge's management socket cannot be used, or the connection was closed.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// Open vSwitch refused a request.
    #[error("ovs-vswitchd: OpenFlow error, type {kind}, code {code}")]
    Refused {
        /// `OFPET_*`.
        kind: u16,
        /// The code for that type.
        code: u16,
    },
    /// Open vSwitch did not answer in time.
    #[error("{0}: no answer")]
    Silent(String),
}

/// Sends frames into the pipeline of the integration bridge.
#[derive(Clone, Debug)]
pub struct Announcer {
    socket: PathBuf,
}

/// The time limit for Open vSwitch.
const PATIENCE: Duration = Duration::from_secs(5);

impl Announcer {
    /// Uses the management socket of a bridge, which Open vSwitch keeps next to the socket of its database.
    pub fn beside(database: &Path, bridge: &str) -> Self {
        Self { socket: database.with_file_name(format!("{bridge}.mgmt")) }
    }

    /// Announces addresses from the port with this `OpenFlow` number, with gratuitous ARP and unsolicited neighbor
    /// advertisements. On return, the frames are in the pipeline.
    pub async fn announce(&self, ofport: u32, mac: Mac, ips: &Addresses) -> Result<(), AnnounceError> {
        let frames: Vec<_> = ips.iter().map(|ip| frame::announcement(mac, *ip)).collect();
        let path = self.socket.display().to_string();
        let failed = |source| AnnounceError::Io { path: path.clone(), source };
        let talk = async {
            let mut stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
            openflow::packets_out(&mut stream, ofport, &frames).await.map_err(|error| match error {
                openflow::Error::Io(source) => failed(source),
                openflow::Error::Refused { kind, code } => AnnounceError::Refused { kind, code },
            })
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(AnnounceError::Silent(path.clone())))
    }
}
