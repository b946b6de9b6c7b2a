//! `Address_Set`.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// A named set of addresses (ovn-nb(5), `Address_Set`) that matches refer to as `$name`.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    /// `name`, unique in the database; letters, digits, `_` and `.`, as ovn-nb(5) asks of what a match can name.
    pub name: String,
    /// The uid of what the set is there for.
    pub seed: Arc<str>,
}

impl AddressSet {
    /// The key of the set called `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::AddressSet, name)
    }

    /// The row, which says nothing of its addresses.
    pub fn fact(&self) -> Fact {
        Fact::Row {
            key: Self::key(&self.name),
            seed: self.seed.clone(),
            columns: [("name", Datum::from(self.name.as_str())), ("external_ids", marked(&[]))].into(),
        }
    }

    /// That the set called `name` has `address`: an address, a network, all of one family per set.
    pub fn member(name: &str, address: &str) -> Fact {
        Fact::value(Self::key(name), "addresses", address)
    }
}
