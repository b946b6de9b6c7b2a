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
