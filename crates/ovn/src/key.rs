//! Row keys: the table and the natural key of a row. The UUID of a new row is derived from them.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::table::TableId;

/// A row's natural key.
///
/// The name is the value of the `name` column if the table has one. Policies and static routes have no name. Their keys
/// include their router: `<router>/<priority>/<match>` and `<router>/<policy>/<prefix>/<nexthop>`. The keys of ACLs
/// include their switch or port group: `<parent>/<tier>/<direction>/<priority>/<match>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowKey {
    /// The table.
    pub table: TableId,
    /// The place of the parent's table in the table's scope. 0 for a key without a scope.
    parent: u8,
    /// The key within the table.
    pub name: Arc<str>,
}

impl RowKey {
    /// Returns the key of `name` in `table`. The parent of a scoped key is of the first table of the scope.
    pub fn new(table: TableId, name: impl Into<Arc<str>>) -> Self {
        Self { table, parent: 0, name: name.into() }
    }

    /// Returns the key of a row of `table` whose parent is `parent`.
    pub fn within(table: TableId, parent: &RowKey, local: impl fmt::Display) -> Self {
        let place = table.descriptor().scope.iter().position(|(of, _)| *of == parent.table).unwrap_or_default();
        let place = u8::try_from(place).unwrap_or_default();
        Self { table, parent: place, name: format!("{}/{local}", parent.name).into() }
    }

    /// Returns the key of the only `NB_Global` row.
    pub fn global() -> Self {
        Self::new(TableId::NbGlobal, ".")
    }

    /// Returns the parent of a scoped key and the parent's column that refers to the row. Returns `None` for a key without
    /// a scope.
    pub fn scope(&self) -> Option<(RowKey, &'static str)> {
        let (table, column) = *self.table.descriptor().scope.get(usize::from(self.parent))?;
        let (parent, _) = self.name.split_once('/')?;
        Some((RowKey::new(table, parent), column))
    }

    /// Returns the local part of the key: the part that the row itself contains and that the replica indexes.
    pub fn local(&self) -> &str {
        if self.table.descriptor().scope.is_empty() {
            return &self.name;
        }
        self.name.split_once('/').map_or(&self.name, |(_, local)| local)
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.table)?;
        // A parent of the table's first kind goes without saying.
        if let Some((parent, _)) = self.scope().filter(|_| self.parent > 0) {
            write!(f, "{} ", parent.table)?;
        }
        f.write_str(&self.name)
    }
}

/// The namespace of all generated UUIDs. Changing it changes the UUIDs of every installation.
const NAMESPACE: Uuid = Uuid::from_u128(0x8d2f_6c1e_51b7_4d0a_9e3b_27f4_c6a0_91d5);

/// Returns the UUID of a new row: `UUIDv5` of its table, natural key and seed. The seed is the UID of the object that
/// the row belongs to. A lost row is therefore recreated with the same UUID, and a row for a new object with the same
/// name gets another UUID.
pub fn row_id(key: &RowKey, seed: &str) -> Uuid {
    match key.scope() {
        Some((parent, _)) if key.parent > 0 => {
            local_id(key.table.name(), &format!("{}\0{}", parent.table, key.name), seed)
        }
        _ => local_id(key.table.name(), &key.name, seed),
    }
}

/// Like [`row_id`], for tables outside of the northbound database.
pub(crate) fn local_id(table: &str, name: &str, seed: &str) -> Uuid {
    let mut text = String::with_capacity(table.len() + name.len() + seed.len() + 2);
    for part in [table, "\0", name, "\0", seed] {
        text.push_str(part);
    }
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable() {
        let key = RowKey::new(TableId::LogicalSwitchPort, "web-0.shop");
        assert_eq!(row_id(&key, "uid").to_string(), "0c217923-7af0-5f2a-a2ed-1e673789cb3a");
        assert_ne!(row_id(&key, "uid"), row_id(&key, "other"));
    }

    #[test]
    fn scoped_keys_split_at_the_parent() {
        let key = RowKey::new(TableId::LogicalRouterPolicy, "ovn-cluster/31000/ip4.dst == 10.16.0.0/16");
        assert_eq!(key.scope(), Some((RowKey::new(TableId::LogicalRouter, "ovn-cluster"), "policies")));
        assert_eq!(key.local(), "31000/ip4.dst == 10.16.0.0/16");
        assert_eq!(RowKey::new(TableId::AddressSet, "a/b").local(), "a/b");
    }

    #[test]
    fn parents_of_two_tables_are_two_parents() {
        let [switch, group] = [TableId::LogicalSwitch, TableId::PortGroup].map(|table| RowKey::new(table, "a"));
        let [one, other] = [&switch, &group].map(|parent| RowKey::within(TableId::Acl, parent, "0/to-lport/1/ip"));
        assert_eq!((one.scope(), other.scope()), (Some((switch, "acls")), Some((group, "acls"))));
        assert_eq!((one.local(), one.name.clone()), (other.local(), other.name.clone()));
        assert_ne!(one, other);
        assert_ne!(row_id(&one, "uid"), row_id(&other, "uid"));
        assert_eq!(one.to_string(), "ACL a/0/to-lport/1/ip");
        assert_eq!(other.to_string(), "ACL Port_Group a/0/to-lport/1/ip");
    }
}
