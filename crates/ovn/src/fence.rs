//! The fence of the northbound database: who may write to it, as two keys in `external_ids` of `NB_Global`. Each controller that
//! takes over writes both, and each of its transactions waits for both. A backup is restored without them.

/// The key of the epoch: a number that each controller that takes over raises.
pub const EPOCH_KEY: &str = "kube-ovn-leader-epoch";

/// The key of the writer: a UUID that each controller makes up when it starts. After a backup was restored, an epoch may be
/// reached twice, but not by the same writer.
pub const WRITER_KEY: &str = "kube-ovn-leader";
