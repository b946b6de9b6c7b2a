//! Installs the conflist, which tells the container runtime that the node's network is ready, and the plugins that it names.
//!
//! The agent writes it atomically when the node can take pods. It stays in place when the agent stops: running pods do
//! not need the agent, and an ADD in the meantime is told to try again.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

/// The permissions of a plugin.
const PROGRAM: u32 = 0o755;
/// The permissions of the conflist.
const TEXT: u32 = 0o644;

/// The locations of the conflist and the plugins.
#[derive(Clone, Debug)]
pub struct Install {
    /// The runtime's configuration directory, `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// The file name of the conflist. Runtimes use the first file in alphabetical order.
    pub conf_name: String,
    /// The path of the agent's socket for the plugin.
    pub socket: PathBuf,
    /// The runtime's directory of plugins, `/opt/cni/bin`.
    pub bin_dir: PathBuf,
    /// Our plugin to copy, if any.
    pub plugin: Option<PathBuf>,
    /// The directory of the CNI project's plugins, which are copied if the runtime has none of their names.
    pub others: Option<PathBuf>,
}

/// Why the node cannot take pods. Each message begins with the flag of the path.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Our plugin cannot be read.
    #[error("--install-cni-config {}: it cannot be read: {source}", path.display())]
    Plugin {
        /// The plugin.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A plugin of the CNI project cannot be read.
    #[error("--install-cni-plugins {}: it cannot be read: {source}", path.display())]
    Others {
        /// The plugin, or the directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A plugin cannot be written.
    #[error("--cni-bin-dir {}: {name} cannot be written, and so the node takes no pods: {source}", dir.display())]
    Bin {
        /// The runtime's directory of plugins.
        dir: PathBuf,
        /// The plugin.
        name: String,
        /// The error.
        source: io::Error,
    },
    /// The conflist cannot be written.
    #[error("--cni-conf-dir {}: {name} cannot be written, and so the node takes no pods: {source}", dir.display())]
    Conf {
        /// The runtime's configuration directory.
        dir: PathBuf,
        /// The file name of the conflist.
        name: String,
        /// The error.
        source: io::Error,
    },
}

impl Install {
    /// Installs the plugins and then the conflist. Does not rewrite files with the same content.
    pub fn apply(&self) -> Result<(), InstallError> {
        if let Some(path) = &self.plugin {
            let content = std::fs::read(path).map_err(|source| InstallError::Plugin { path: path.clone(), source })?;
            self.plugin("kube-ovn", &content)?;
        }
        if let Some(dir) = &self.others {
            self.others(dir)?;
        }
        let failed = |source| InstallError::Conf { dir: self.conf_dir.clone(), name: self.conf_name.clone(), source };
        std::fs::create_dir_all(&self.conf_dir).map_err(failed)?;
        put(&self.conf_dir.join(&self.conf_name), self.text().as_bytes(), TEXT).map_err(failed)
    }

    /// Copies the plugins that the runtime does not have. Those that it has are the host's own, of its version.
    fn others(&self, dir: &Path) -> Result<(), InstallError> {
        let unread = |path: &Path| {
            let path = path.to_owned();
            move |source| InstallError::Others { path, source }
        };
        for entry in std::fs::read_dir(dir).map_err(unread(dir))? {
            let from = entry.map_err(unread(dir))?.path();
            let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !self.bin_dir.join(&name).exists() {
                let content = std::fs::read(&from).map_err(unread(&from))?;
                self.plugin(&name, &content)?;
            }
        }
        Ok(())
    }

    /// Writes a plugin to the runtime's directory.
    fn plugin(&self, name: &str, content: &[u8]) -> Result<(), InstallError> {
        let written = std::fs::create_dir_all(&self.bin_dir);
        let written = written.and_then(|()| put(&self.bin_dir.join(name), content, PROGRAM));
        written.map_err(|source| InstallError::Bin { dir: self.bin_dir.clone(), name: name.to_owned(), source })
    }

    /// Returns the conflist. It uses version 1.0.0, the newest version that containerd 1.6 supports.
    fn text(&self) -> String {
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": "kube-ovn",
            "plugins": [
                { "type": "kube-ovn", "server_socket": self.socket },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        format!("{conflist:#}\n")
    }
}

/// What is still to be installed. It is done once: who removes our conflist afterwards has a reason, see
/// [`rivals`](crate::rivals).
#[derive(Debug)]
pub struct Installation {
    left: Option<Install>,
    /// The last failure, which is logged once.
    failure: String,
}

impl Installation {
    /// Starts with everything to be done, or with nothing.
    pub fn new(left: Option<Install>) -> Self {
        Self { left, failure: String::new() }
    }

    /// Installs what is left, or returns why it cannot. Disks can be slow, so another thread writes to them.
    pub async fn finish(&mut self) -> Result<(), String> {
        let Some(files) = self.left.clone() else { return Ok(()) };
        let dir = files.conf_dir.display().to_string();
        let installed = tokio::task::spawn_blocking(move || files.apply()).await;
        let installed = installed.map_err(|error| error.to_string());
        match installed.and_then(|applied| applied.map_err(|error| error.to_string())) {
            Ok(()) => {
                tracing::info!(dir, "conflist in place: the node takes pods");
                self.left = None;
                Ok(())
            }
            Err(why) => {
                if self.failure != why {
                    tracing::error!("{why}");
                    self.failure.clone_from(&why);
                }
                Err(why)
            }
        }
    }
}

/// Writes a file if it differs. A disk that has become full does not matter for files that are right.
fn put(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let right = std::fs::read(path).is_ok_and(|now| now == content)
        && std::fs::metadata(path).is_ok_and(|now| now.permissions().mode() & 0o777 == mode);
    if right { Ok(()) } else { kit::file::write(path, content, mode) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::fs;

    /// The files of a node, and those to install there.
    fn node() -> (tempfile::TempDir, Install) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("built"), "plugin").unwrap();
        fs::create_dir(path("others")).unwrap();
        fs::write(path("others/loopback"), "theirs").unwrap();
        fs::write(path("others/portmap"), "theirs").unwrap();
        let install = Install {
            conf_dir: path("net.d"),
            conf_name: "01-kube-ovn.conflist".to_owned(),
            socket: "/run/openvswitch/kube-ovn-daemon.sock".into(),
            bin_dir: path("bin"),
            plugin: Some(path("built")),
            others: Some(path("others")),
        };
        (dir, install)
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_conflist_is_what_containerd_reads() {
        let (_dir, install) = node();
        install.apply().unwrap();
        install.apply().unwrap();
        assert_eq!(names(&install.conf_dir), ["01-kube-ovn.conflist"]);
        assert_eq!(names(&install.bin_dir), ["kube-ovn", "loopback", "portmap"]);
        assert_eq!(fs::read(install.bin_dir.join("kube-ovn")).unwrap(), b"plugin");
        expect![[r#"
            {
              "cniVersion": "1.0.0",
              "name": "kube-ovn",
              "plugins": [
                {
                  "server_socket": "/run/openvswitch/kube-ovn-daemon.sock",
                  "type": "kube-ovn"
                },
                {
                  "capabilities": {
                    "portMappings": true
                  },
                  "type": "portmap"
                }
              ]
            }
        "#]]
        .assert_eq(&fs::read_to_string(install.conf_dir.join("01-kube-ovn.conflist")).unwrap());
    }

    #[test]
    fn our_plugin_is_replaced_and_those_of_the_host_stay() {
        let (_dir, install) = node();
        fs::create_dir(&install.bin_dir).unwrap();
        for name in ["kube-ovn", "loopback"] {
            fs::write(install.bin_dir.join(name), "the host's").unwrap();
        }
        install.apply().unwrap();
        let read = |name: &str| fs::read_to_string(install.bin_dir.join(name)).unwrap();
        assert_eq!([read("kube-ovn"), read("loopback"), read("portmap")], ["plugin", "the host's", "theirs"]);
        // A plugin that may not be run is none.
        let plugin = install.bin_dir.join("kube-ovn");
        fs::set_permissions(&plugin, PermissionsExt::from_mode(0o644)).unwrap();
        install.apply().unwrap();
        assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o777, PROGRAM);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named_by_its_flag_and_no_conflist_is_there() {
        let (dir, install) = node();
        let said = |install: &Install| {
            let said = install.apply().unwrap_err().to_string();
            assert!(!install.conf_dir.join(&install.conf_name).exists());
            said.replace(&dir.path().display().to_string(), "")
        };
        let path = |name: &str| dir.path().join(name);
        let none = Install { plugin: Some(path("usr/lib/kube-ovn/kube-ovn")), ..install.clone() };
        assert_eq!(
            said(&none),
            "--install-cni-config /usr/lib/kube-ovn/kube-ovn: it cannot be read: No such file or directory (os error 2)"
        );
        let none = Install { others: Some(path("none")), ..install.clone() };
        assert_eq!(
            said(&none),
            "--install-cni-plugins /none: it cannot be read: No such file or directory (os error 2)"
        );
        // Files where the directories would be.
        let bin = Install { bin_dir: path("built/bin"), ..install.clone() };
        assert_eq!(
            said(&bin),
            "--cni-bin-dir /built/bin: kube-ovn cannot be written, and so the node takes no pods: Not a directory (os error 20)"
        );
        let conf = Install { conf_dir: path("built/net.d"), ..install };
        assert_eq!(
            said(&conf),
            "--cni-conf-dir /built/net.d: 01-kube-ovn.conflist cannot be written, and so the node takes no pods: Not a directory \
             (os error 20)"
        );
    }
}
