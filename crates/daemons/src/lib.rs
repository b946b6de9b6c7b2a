//! OVN's and OVS's daemons as children of process 1 of a container.
//!
//! - [`crew`]: starts them in order, each when the one before does its work, starts again what ends by itself, and stops
//!   them in reverse order;
//! - [`daemon`]: one of them: its process, its log lines among ours, its end;
//! - [`restarts`]: how often one may end before that is a reason to give up;
//! - [`orphans`]: what process 1 owes to processes whose parents have ended;
//! - [`control`]: what a daemon is asked on its control socket, and a database on its own;
//! - [`status`]: what is asked of process 1 itself, by probes;
//! - [`tool`]: programs that run to their end;
//! - [`damage`]: files of databases that no server can open;
//! - [`version`]: which OVN or OVS is installed.
//!
//! It promises that nothing it has started outlives [`crew::Crew::run`], and that each end of a daemon is one line of the
//! log. It knows no table of a database, and no Kubernetes.

pub mod control;
pub mod crew;
pub mod daemon;
pub mod damage;
mod line;
pub mod member;
pub mod orphans;
pub mod restarts;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tool;
pub mod version;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets what is started from now on open as many files as the container may: a database holds one for each client, and
/// ovs-vswitchd some for each port.
pub fn raise_open_files() -> std::io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Some programs go over all numbers that could be open files; a million is more than they take well.
    let soft = most.min(65_536);
    setrlimit(Resource::RLIMIT_NOFILE, soft, most)?;
    Ok(soft)
}
