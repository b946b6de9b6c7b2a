//! Tells a subnet who has an address now: neighbours may remember the MAC of an earlier holder.
//!
//! The frames are not sent from inside the pod but handed to Open vSwitch as if its port had sent them (an `OpenFlow`
//! packet-out into the pipeline). A frame that arrives at a port leaves a flow in the datapath's cache; that of a flooded
//! one names every port of the subnet, stays for ten seconds, and is translated anew whenever a port is added. With one of
//! them from each new pod, adding a port takes longer the more ports there are. A packet-out leaves none.

mod frame;
mod openflow;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Addresses, Mac};
use tokio::net::UnixStream;

/// Why nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The bridge's management socket cannot be used, or hung up.
    #[error("{path}: {source}")]
    Io {
        /// The socket.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Open vSwitch refused something.
    #[error("ovs-vswitchd: OpenFlow error, type {kind}, code {code}")]
    Refused {
        /// `OFPET_*`.
        kind: u16,
        /// The code within that type.
        code: u16,
    },
    /// No answer in time.
    #[error("{0}: no answer")]
    Silent(String),
}

/// The way to the pipeline of the integration bridge.
#[derive(Clone, Debug)]
pub struct Announcer {
    socket: PathBuf,
}

/// How long Open vSwitch may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Announcer {
    /// By the management socket that Open vSwitch keeps for each bridge beside its database's socket.
    pub fn beside(database: &Path, bridge: &str) -> Self {
        Self { socket: database.with_file_name(format!("{bridge}.mgmt")) }
    }

    /// Announces the addresses from the port of this `OpenFlow` number: gratuitous ARP, unsolicited neighbour advertisement.
    /// When this returns, the frames are on their way.
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
