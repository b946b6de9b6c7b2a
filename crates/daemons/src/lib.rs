//! Runs OVN and OVS daemons as children of process 1 of a container.
//!
//! - [`init`]: what process 1 does before;
//! - [`crew`]: starts the daemons in order, restarts them when they exit, and stops them in reverse order;
//! - [`daemon`]: one daemon: its process, its log lines and its exit;
//! - [`restarts`]: limits how often a daemon may exit;
//! - [`orphans`]: reaps orphaned processes, as process 1 must;
//! - [`pidfile`]: tells whether a daemon of somebody else runs;
//! - [`control`]: queries a daemon on its control socket, or a database;
//! - [`status`]: answers probes about process 1;
//! - [`tool`]: runs programs to completion, or until they print a line;
//! - [`damage`]: handles damaged database files;
//! - [`turn`]: lets only one process at a time run the daemons of a directory;
//! - [`user`]: the unprivileged user that process 1 becomes;
//! - [`version`]: the installed version of OVN or OVS.
//!
//! No daemon outlives [`crew::Crew::run`], and the log has one line for each exit of a daemon. The crate depends on no
//! database table and not on Kubernetes.

pub mod control;
pub mod crew;
pub mod daemon;
pub mod damage;
pub mod init;
mod line;
pub mod member;
pub mod orphans;
pub mod pidfile;
pub mod restarts;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tool;
pub mod turn;
pub mod user;
pub mod version;
