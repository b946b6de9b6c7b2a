//! Settings of an interface that have no rtnetlink word, in the namespace of the calling thread.

use std::path::Path;

/// Sets one of `net.<protocol>.conf.<scope>`; a kernel without the protocol has none, and needs none.
pub fn set(protocol: &str, scope: &str, name: &str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/net/{protocol}/conf/{scope}/{name}");
    if Path::new(&path).exists() { std::fs::write(&path, value) } else { Ok(()) }
}
