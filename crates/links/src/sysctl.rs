//! Sysctls of the network that rtnetlink cannot set, in the namespace of the calling thread.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the sysctls are, unless [`use_directory`] says otherwise.
pub const DIRECTORY: &str = "/proc/sys/net";

static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// Has this process find the sysctls in another directory, where [`DIRECTORY`] is mounted once more: in a container without
/// privileges, that one is read-only. Must be called before the sysctls are used. Fails if they are not there.
pub fn use_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::metadata(directory.join("ipv4"))?;
    // The first call decides.
    let _ = OTHER.set(directory.to_owned());
    Ok(())
}

/// Returns the directory of the sysctls `net.*`.
pub fn directory() -> &'static Path {
    OTHER.get().map_or(Path::new(DIRECTORY), PathBuf::as_path)
}

/// Sets `net.<protocol>.conf.<scope>.<name>`. Does nothing if the kernel does not support the protocol.
///
/// A value that is already correct is not written: for some sysctls the kernel busy-waits for the RTNL lock.
pub fn set(protocol: &str, scope: &str, name: &str, value: &str) -> std::io::Result<()> {
    let path = directory().join(format!("{protocol}/conf/{scope}/{name}"));
    if !path.exists() || std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value)
}
