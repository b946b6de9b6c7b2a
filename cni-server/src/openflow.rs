//! `OpenFlow` requests to a bridge of the node, by its management socket.

mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::annotations::Limit;
use tokio::net::UnixStream;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenFlowError {
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

/// The management socket of a bridge.
#[derive(Clone, Debug)]
pub struct Management {
    socket: PathBuf,
}

/// The time limit for Open vSwitch.
const PATIENCE: Duration = Duration::from_secs(5);

impl Management {
    /// Uses the management socket of a bridge, which Open vSwitch keeps next to the socket of its database.
    pub fn beside(database: &Path, bridge: &str) -> Self {
        Self { socket: database.with_file_name(format!("{bridge}.mgmt")) }
    }

    /// Sends frames into the pipeline as if the port with this number had received them. On return, the bridge has processed
    /// them.
    pub async fn packets_out(&self, in_port: u32, frames: &[Vec<u8>]) -> Result<(), OpenFlowError> {
        self.talk(&wire::packets_out(in_port, frames)).await.map(drop)
    }

    /// Returns the limits of the bridge's meters.
    pub async fn meters(&self) -> Result<Vec<Limit>, OpenFlowError> {
        Ok(wire::limits(&self.talk(&wire::all_meters()).await?))
    }

    async fn talk(&self, requests: &[u8]) -> Result<Vec<Vec<u8>>, OpenFlowError> {
        let path = self.socket.display().to_string();
        let failed = |source| OpenFlowError::Io { path: path.clone(), source };
        let talk = async {
            let mut stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
            wire::talk(&mut stream, requests).await.map_err(|error| match error {
                wire::Error::Io(source) => failed(source),
                wire::Error::Refused { kind, code } => OpenFlowError::Refused { kind, code },
            })
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(OpenFlowError::Silent(path.clone())))
    }
}
