//! The daemons' names, and the files by which others find them.

use std::path::PathBuf;

use crate::args::RunDirectories;

/// The server of the node's database.
pub(crate) const SERVER: &str = "ovsdb-server";
/// The switch.
pub(crate) const VSWITCHD: &str = "ovs-vswitchd";
/// The agent of OVN.
pub(crate) const CONTROLLER: &str = "ovn-controller";

/// Returns the directory of a daemon's files.
fn run_directory<'a>(directories: &'a RunDirectories, name: &str) -> &'a PathBuf {
    if name == CONTROLLER { &directories.ovn_run_directory } else { &directories.run_directory }
}

/// Returns the file with the process ID of a daemon.
pub(crate) fn pid_file(directories: &RunDirectories, name: &str) -> PathBuf {
    run_directory(directories, name).join(format!("{name}.pid"))
}

/// Returns the control socket, the default of `ovs-appctl -t NAME` and `ovn-appctl -t NAME`.
pub(crate) fn control_socket(directories: &RunDirectories, name: &str, pid: u32) -> PathBuf {
    run_directory(directories, name).join(format!("{name}.{pid}.ctl"))
}
