//! The address of a server in its cluster.
//!
//! Servers of Raft do not speak with each other over the network. Each one listens on a socket in its container, and knows the
//! others by sockets beside it, which [`crate::gate`] connects with theirs: `unix:raft/.10.0.0.1:6643` is the server whose gate is
//! at 10.0.0.1, port 6643. The path is relative to the run directory. Because of the dot, the server says the ID of another one
//! in `cluster/status`, and not the beginning of the file's name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The directory of the sockets in the run directory.
const DIRECTORY: &str = "raft";

/// Returns the address in the cluster of the server behind the gate at this address.
pub fn of(gate: SocketAddr) -> String {
    format!("unix:{DIRECTORY}/.{gate}")
}

/// Returns the address of the gate. Servers of other installations speak over the network themselves: `tcp:10.0.0.1:6643`.
pub fn gate(address: &str) -> Option<SocketAddr> {
    let (method, rest) = address.split_once(':')?;
    let place = match method {
        "unix" => rest.strip_prefix(DIRECTORY)?.strip_prefix("/.")?,
        _ => rest,
    };
    place.parse().ok()
}

/// Returns the path of the socket of the server behind the gate at this address.
pub fn socket(run_directory: &Path, gate: SocketAddr) -> PathBuf {
    directory(run_directory).join(format!(".{gate}"))
}

/// Returns the directory of the sockets.
pub fn directory(run_directory: &Path) -> PathBuf {
    run_directory.join(DIRECTORY)
}

/// Returns the addresses of gates in the words of `ovsdb-tool show-log`.
pub fn mentioned(configuration: &str) -> impl Iterator<Item = SocketAddr> + '_ {
    configuration.split("(\"").skip(1).filter_map(|rest| gate(rest.split_once("\")")?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["10.0.0.1:6643", "[fd00::1]:6644"] {
            let place = text.parse().unwrap();
            assert_eq!(gate(&of(place)), Some(place));
            assert_eq!(gate(&format!("tcp:{text}")), Some(place));
        }
        assert_eq!(of("10.0.0.1:6643".parse().unwrap()), "unix:raft/.10.0.0.1:6643");
        for other in ["", "unix:raft/10.0.0.1:6643", "unix:/run/x.sock", "tcp:", "tcp:name:6643"] {
            assert_eq!(gate(other), None, "{other}");
        }
        let log = " servers: 02f2(\"tcp:10.0.0.1:6643\"), 55aa(\"unix:raft/.[fd00::2]:6643\")";
        assert_eq!(mentioned(log).count(), 2);
    }
}
