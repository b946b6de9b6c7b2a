//! Checks whether the schema of the northbound database has every table and column that the controller writes.
//!
//! The schema of an older OVN lacks columns, so the database would refuse almost every transaction. The controller then
//! writes nothing and reports that it is not ready. When the database is converted to a newer schema, the client
//! reconnects and the controller starts to write.

use ovsdb::Replica;

/// The oldest OVN version that has all columns. `ovn-central` requires the same version.
const OLDEST: &str = "24.03";
/// The key in `NB_Global.options` under which northd stores its version.
const NORTHD: &str = "northd_internal_version";

/// Why the schema is too old, with its version, the missing columns and the oldest supported version. `None` if the
/// schema is complete.
pub fn too_old(nb: &Replica) -> Option<String> {
    let lacking: Vec<String> = nb.lacking().map(|(table, column)| format!("{table}.{column}")).collect();
    if lacking.is_empty() {
        return None;
    }
    let northd = nb.rows("NB_Global").next().and_then(|(_, row)| row.get("options")?.get(NORTHD));
    let northd = northd.map_or_else(String::new, |version| format!(" (northd {version})"));
    let (version, lacking) = (nb.version(), lacking.join(", "));
    Some(format!(
        "the northbound database is too old: its schema {version}{northd} lacks {lacking}; OVN {OLDEST} is the oldest that will do"
    ))
}
