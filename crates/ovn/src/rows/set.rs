//! `Address_Set`.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// A named set of addresses (ovn-nb(5), `Address_Set`). Matches refer to it as `$name`.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    /// `name`, unique in the database. It contains letters, digits, `_` and `.`, as ovn-nb(5) requires for use in a
    /// match.
    pub name: String,
    /// The UID of the set's owner.
    pub seed: Arc<str>,
    /// Further `external_ids`.
    pub external_ids: Vec<(&'static str, Arc<str>)>,
}

impl AddressSet {
    /// Returns the key of the set `name`.
    pub fn key(name: &str) -> RowKey {
        RowKey::new(TableId::AddressSet, name)
    }

    /// Returns the row, without its addresses.
    pub fn fact(&self) -> Fact {
        Fact::Row {
            key: Self::key(&self.name),
            seed: self.seed.clone(),
            columns: [("name", Datum::from(self.name.as_str())), ("external_ids", marked(&self.external_ids))].into(),
        }
    }

    /// Returns the fact that the set `name` contains `address`, an address or a network. All have one address family
    /// per set.
    pub fn member(name: &str, address: &str) -> Fact {
        Fact::value(Self::key(name), "addresses", address)
    }
}
