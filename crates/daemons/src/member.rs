//! A daemon of a crew, as those see it who answer for it.

/// What others may know of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is called.
    pub name: &'static str,
    /// The number of its process, while it has one.
    pub pid: Option<u32>,
    /// Whether it has done its work since it was started.
    pub settled: bool,
}
