//! Sysctls of an interface that rtnetlink cannot set, in the namespace of the calling thread.

use std::path::Path;

/// Sets `net.<protocol>.conf.<scope>.<name>`. Does nothing if the kernel does not support the protocol.
///
/// A value that is already correct is not written: for some sysctls the kernel busy-waits for the RTNL lock.
pub fn set(protocol: &str, scope: &str, name: &str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/net/{protocol}/conf/{scope}/{name}");
    if !Path::new(&path).exists() || std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value)
}
