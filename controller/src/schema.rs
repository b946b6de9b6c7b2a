//! Whether the northbound database can hold what we write.
//!
//! One of an older OVN lacks columns, and would refuse a part of almost everything. So nothing is written there: the
//! controller waits, not ready, until the database has been converted to a newer schema, which it hears of at once.

use ovsdb::Replica;

/// The OVN that has them all, as `ovn-central` wants it too.
const OLDEST: &str = "24.03";
/// Under this key northd says which it is, in `NB_Global.options`.
const NORTHD: &str = "northd_internal_version";

/// Why it cannot, if so: which version was found, what it lacks, and which is the least.
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
