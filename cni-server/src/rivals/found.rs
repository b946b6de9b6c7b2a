//! The configuration files in the runtime's directory, and which of them leads to ours.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::Rivals;

/// The file extensions that runtimes read (libcni and containerd's go-cni).
const READ: [&str; 3] = [".conf", ".conflist", ".json"];

/// Configuration files, in the order in which a runtime reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Files before ours that do not delegate to our plugin.
    pub(super) before: Vec<String>,
    /// Files before ours that delegate to our plugin.
    pub(super) leading: Vec<String>,
    /// Files after ours.
    pub(super) after: Vec<String>,
    /// Whether our file exists.
    pub(super) ours: bool,
}

impl Found {
    /// Reads the runtime's configuration directory.
    pub(super) fn look(rivals: &Rivals) -> io::Result<Self> {
        let Rivals { conf_dir, conf_name } = rivals;
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(conf_dir)? {
            let entry = entry?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Ok(name) = entry.file_name().into_string()
                && !is_dir
                && READ.iter().any(|end| name.ends_with(end))
            {
                names.insert(name);
            }
        }
        let mut found = Found { ours: names.remove(conf_name), ..Found::default() };
        for name in names {
            if name > *conf_name {
                found.after.push(name);
            } else if leads_to(&conf_dir.join(&name), conf_name) {
                found.leading.push(name);
            } else {
                found.before.push(name);
            }
        }
        Ok(found)
    }
}

/// Returns true if another network's file delegates to ours: it names our conflist or calls our plugin.
fn leads_to(path: &Path, conf_name: &str) -> bool {
    let read = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    read.is_some_and(|conf: Value| calls(&conf, conf_name))
}

fn calls(conf: &Value, conf_name: &str) -> bool {
    match conf {
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| (key == "type" && value == "kube-ovn") || calls(value, conf_name))
        }
        Value::Array(items) => items.iter().any(|item| calls(item, conf_name)),
        Value::String(text) => Path::new(text).file_name().is_some_and(|name| name == conf_name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rivals::tests::{OURS, folder};
    use std::fs;

    #[test]
    fn only_what_a_runtime_reads_counts_and_the_order_is_that_of_names() {
        let (_dir, rivals) = folder();
        fs::create_dir(&rivals.conf_dir).unwrap();
        for name in [OURS, "10-flannel.conflist", "00-bridge.conf", "05-cilium.conflist.bak", "02-x.json", "README"] {
            fs::write(rivals.conf_dir.join(name), "{}").unwrap();
        }
        fs::create_dir(rivals.conf_dir.join("00-folder.conf")).unwrap();
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = Found::look(&rivals).unwrap();
        assert!(found.ours);
        assert_eq!(found.before, list(&["00-bridge.conf"]));
        assert_eq!(found.after, list(&["02-x.json", "10-flannel.conflist"]));
    }

    #[test]
    fn one_that_hands_pods_on_to_us_is_none() {
        for (conf, leads) in [
            (r#"{"type": "multus-shim", "clusterNetwork": "/host/etc/cni/net.d/01-kube-ovn.conflist"}"#, true),
            (r#"{"type": "multus", "delegates": [{"plugins": [{"type": "kube-ovn"}, {"type": "portmap"}]}]}"#, true),
            (r#"{"type": "multus-shim", "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist"}"#, false),
            (r#"{"name": "kube-ovn", "plugins": [{"type": "bridge"}]}"#, false),
            ("{", false),
        ] {
            let (_dir, rivals) = folder();
            fs::create_dir(&rivals.conf_dir).unwrap();
            fs::write(rivals.conf_dir.join("00-multus.conf"), conf).unwrap();
            let found = Found::look(&rivals).unwrap();
            assert_eq!((found.leading.len(), found.before.len()), (usize::from(leads), usize::from(!leads)), "{conf}");
        }
    }
}
