//! The lab as tests see it.

/// A lab that is up.
pub struct Cluster;
