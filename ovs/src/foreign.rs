//! Daemons of another Open vSwitch or OVN on the node, for example those of the distribution.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use daemons::pidfile;

use crate::args::RunDirectories;
use crate::places::{CONTROLLER, SERVER, VSWITCHD, pid_file};

/// Why our daemons cannot run on this node.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A daemon runs already that this program did not start.
    #[error(
        "{name} runs already on this node, as process {pid} of {}, and it is not ours: stop it for good, for example by \
         `systemctl mask --now {units}`", file.display()
    )]
    Runs {
        /// The daemon.
        name: &'static str,
        /// The process, in its own namespace.
        pid: String,
        /// The file that it has locked.
        file: PathBuf,
        /// Units of distributions that start it.
        units: &'static str,
    },
    /// The file with the process ID of a daemon cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The units of Debian and of Fedora that start daemons of the same names.
const UNITS: [(&str, &str); 3] = [
    (SERVER, "openvswitch-switch ovsdb-server openvswitch"),
    (VSWITCHD, "openvswitch-switch ovs-vswitchd openvswitch"),
    (CONTROLLER, "ovn-host ovn-controller"),
];

/// The time that the daemons of a predecessor that was killed have to end.
pub const ENDING: Duration = Duration::from_secs(5);

/// Fails if daemons run that an earlier or another installation has started: ours would end at once, or take away their
/// sockets. It must be our turn, so that they are not those of another process of ours. Daemons have `ending` to end.
pub async fn look(directories: &RunDirectories, ending: Duration) -> Result<(), ForeignError> {
    for (name, units) in UNITS {
        let file = pid_file(directories, name);
        let holder = pidfile::lasting_holder(&file, ending).await;
        let holder = holder.map_err(|source| ForeignError::Io { path: file.clone(), source })?;
        if let Some(pid) = holder {
            return Err(ForeignError::Runs { name, pid, file, units });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_of_somebody_else_is_named_with_its_file_and_the_units_to_mask() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let directories = RunDirectories { run_directory: path("ovs"), ovn_run_directory: path("ovn") };
        look(&directories, Duration::from_millis(200)).await.unwrap();
        std::fs::create_dir(path("ovs")).unwrap();
        let file = path("ovs/ovsdb-server.pid");
        let mut server = std::process::Command::new("ovsdb-server");
        server.args(["--no-db", "-vconsole:off", "-vsyslog:off", &format!("--pidfile={}", file.display())]);
        server.args([
            format!("--unixctl={}", path("ctl").display()),
            format!("--remote=punix:{}", path("sock").display()),
        ]);
        let mut server = server.spawn().unwrap();
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let said = look(&directories, Duration::from_millis(200)).await.unwrap_err().to_string();
        let said = said.replace(&path("ovs").display().to_string(), "/run/openvswitch");
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(
            said.replace(&format!("process {} ", server.id()), "process 1234 "),
            "ovsdb-server runs already on this node, as process 1234 of /run/openvswitch/ovsdb-server.pid, and it is not ours: stop \
             it for good, for example by `systemctl mask --now openvswitch-switch ovsdb-server openvswitch`"
        );
        // What it left is no obstacle.
        look(&directories, Duration::from_millis(200)).await.unwrap();
    }
}
