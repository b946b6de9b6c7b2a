//! The settings of ovn-controller and ovs-vswitchd in the `Open_vSwitch` row.
//!
//! They are only our own keys. The node agent writes `ovn-remote`, `ovn-encap-ip`, `ovn-encap-type`, `ovn-encap-csum` and
//! `ovn-monitor-all`, because it reads the Node objects. Other keys are unused or set by an operator.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ovn::local::chassis_of;

use crate::datapath::Datapath;

/// Why the chassis ID cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct IdError {
    path: PathBuf,
    source: io::Error,
}

/// Returns our keys. The intervals are kube-ovn's: in seconds for ovs-vswitchd, in milliseconds for the southbound
/// database.
pub fn ours(id: &str, node_name: &str, datapath: Datapath) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("system-id", id.to_owned()),
        ("hostname", node_name.to_owned()),
        ("ovn-remote-probe-interval", "10000".to_owned()),
        ("ovn-openflow-probe-interval", "180".to_owned()),
        ("ovn-bridge-datapath-type", datapath.as_str().to_owned()),
    ])
}

/// What the database says of the chassis.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `external_ids:system-id`.
    pub id: Option<String>,
    /// `external_ids:hostname`: the name of the node that the database was written on.
    pub hostname: Option<String>,
}

/// Returns the chassis ID: from the file, otherwise from the database, otherwise [`chassis_of`]. The ID must not change,
/// so it is written to the file. If the database is of another node, for example because the disk was copied, its ID is
/// not used: two nodes with one ID would take each other's ports.
pub fn system_id(file: &Path, recorded: Recorded, node_name: &str) -> Result<String, IdError> {
    let failed = |source| IdError { path: file.to_owned(), source };
    // Other programs record the name with the domain.
    let own = |name: &String| name == node_name || name.split_once('.').is_some_and(|(host, _)| host == node_name);
    let other = recorded.hostname.filter(|name| !name.is_empty() && !own(name));
    if let Some(other) = &other {
        tracing::warn!(other, "the database of Open vSwitch is of another node: this one gets a chassis ID of its own");
    }
    match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() && other.is_none() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let known = recorded.id.filter(|id| !id.is_empty() && other.is_none());
    let id = known.unwrap_or_else(|| chassis_of(node_name));
    kit::file::write(file, format!("{id}\n").as_bytes(), 0o644).map_err(failed)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chassis_keeps_the_id_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("system-id.conf");
        let recorded = |id: &str| Recorded { id: Some(id.to_owned()), hostname: None };
        let system_id = |recorded: Option<Recorded>, node| super::system_id(&file, recorded.unwrap_or_default(), node);
        assert_eq!(system_id(Some(recorded("random")), "n1").unwrap(), "random");
        assert_eq!(system_id(None, "n1").unwrap(), "random");
        let n1 = "f63c9655-17dc-58ef-9ad2-a901efce4ff3";
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(system_id(None, "n1").unwrap(), n1);
        assert_eq!(system_id(Some(recorded("other")), "n2").unwrap(), n1);
        // A node that has lost its directory gets the ID again, and another node gets another one.
        std::fs::remove_file(&file).unwrap();
        assert_eq!(system_id(None, "n1").unwrap(), n1);
        // The disk of n1 was copied.
        let of = |hostname: &str| Some(Recorded { id: Some(n1.to_owned()), hostname: Some(hostname.to_owned()) });
        for hostname in ["n1", "n1.example.com", ""] {
            assert_eq!(system_id(of(hostname), "n1").unwrap(), n1);
        }
        let n2 = system_id(of("n1"), "n2").unwrap();
        assert_ne!(n2, n1);
        assert_eq!(system_id(of("n2"), "n2").unwrap(), n2);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(system_id(Some(recorded("")), "n2").unwrap(), n2);
        let nowhere =
            super::system_id(Path::new("/no/such/directory/id"), Recorded::default(), "n1").unwrap_err().to_string();
        assert!(nowhere.starts_with("/no/such/directory/id: No such file"), "{nowhere}");
    }
}
