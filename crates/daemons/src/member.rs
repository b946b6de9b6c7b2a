//! The public state of a daemon in a crew.

/// The state of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name.
    pub name: &'static str,
    /// The process ID, if the daemon is running.
    pub pid: Option<u32>,
    /// Whether the daemon has worked since its last start.
    pub is_up: bool,
}

/// Returns the process ID of the daemon with this name, if it is running.
pub fn pid(members: &[Member], name: &str) -> Option<u32> {
    members.iter().find(|member| member.name == name)?.pid
}

/// Returns true if the daemon with this name works.
pub fn is_up(members: &[Member], name: &str) -> bool {
    members.iter().any(|member| member.name == name && member.is_up)
}
