//! Installs the conflist, which tells the container runtime that the node's network is ready.
//!
//! The agent writes it atomically when the node can take pods. It stays in place when the agent stops: running pods do
//! not need the agent, and an ADD in the meantime is told to try again.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

/// The locations of the conflist and the plugin.
#[derive(Clone, Debug)]
pub struct Install {
    /// The runtime's configuration directory, `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// The file name of the conflist. Runtimes use the first file in alphabetical order.
    pub conf_name: String,
    /// The path of the agent's socket for the plugin.
    pub socket: PathBuf,
    /// The plugin to copy, and the directory to copy it to.
    pub plugin: Option<(PathBuf, PathBuf)>,
}

impl Install {
    /// Installs the plugin and then the conflist. Does not rewrite files with the same content.
    pub fn apply(&self) -> io::Result<()> {
        if let Some((from, to_dir)) = &self.plugin {
            use std::os::unix::fs::PermissionsExt;
            std::fs::create_dir_all(to_dir)?;
            put(&to_dir.join("kube-ovn"), &std::fs::read(from)?, std::fs::Permissions::from_mode(0o755))?;
        }
        std::fs::create_dir_all(&self.conf_dir)?;
        let text = self.text();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        put(&self.conf_dir.join(&self.conf_name), text.as_bytes(), permissions)
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

/// Writes a file atomically: writes a temporary file in the same directory and renames it.
fn put(path: &Path, content: &[u8], permissions: std::fs::Permissions) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|now| now == content) {
        return Ok(());
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let temporary = path.with_file_name(name);
    std::fs::write(&temporary, content)?;
    std::fs::set_permissions(&temporary, permissions)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_conflist_is_what_containerd_reads() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("built");
        std::fs::write(&plugin, "plugin").unwrap();
        let install = Install {
            conf_dir: dir.path().join("net.d"),
            conf_name: "01-kube-ovn.conflist".to_owned(),
            socket: "/run/openvswitch/kube-ovn-daemon.sock".into(),
            plugin: Some((plugin, dir.path().join("bin"))),
        };
        install.apply().unwrap();
        install.apply().unwrap();
        let names: Vec<_> = std::fs::read_dir(&install.conf_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["01-kube-ovn.conflist"]);
        assert_eq!(std::fs::read(dir.path().join("bin/kube-ovn")).unwrap(), b"plugin");
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
        .assert_eq(&std::fs::read_to_string(install.conf_dir.join("01-kube-ovn.conflist")).unwrap());
    }
}
