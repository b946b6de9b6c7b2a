//! Settings of an interface that have no rtnetlink word, in the namespace of the calling thread.

use std::path::Path;

/// Makes one of `net.<protocol>.conf.<scope>` what is wanted; a kernel without the protocol has none, and needs none.
///
/// What is right already is not written: for some settings the kernel asks for its one lock over all links again and
/// again, and keeps the processor busy until it has it.
pub fn set(protocol: &str, scope: &str, name: &str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/net/{protocol}/conf/{scope}/{name}");
    if !Path::new(&path).exists() || std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(());
    }
    std::fs::write(&path, value)
}
