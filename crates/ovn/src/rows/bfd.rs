//! `BFD`.

use std::sync::Arc;

use ovsdb::Datum;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// A session that tells whether a next hop is there (ovn-nb(5), `BFD`). Its key is the port and the address.
#[derive(Clone, Debug, Default)]
pub struct Bfd {
    /// `logical_port`: the router port that the session runs on.
    pub port: String,
    /// `dst_ip`: the address of the next hop.
    pub to: String,
    /// The UID of the session's owner.
    pub seed: Arc<str>,
}

impl Bfd {
    /// Returns the row's key.
    pub fn key(&self) -> RowKey {
        RowKey::new(TableId::Bfd, format!("{}/{}", self.port, self.to))
    }

    /// Returns the row.
    pub fn fact(&self) -> Fact {
        let columns = [
            ("logical_port", Datum::from(self.port.as_str())),
            ("dst_ip", Datum::from(self.to.as_str())),
            ("external_ids", marked(&[])),
        ];
        Fact::Row { key: self.key(), seed: self.seed.clone(), columns: columns.into() }
    }

    /// Returns the fact that `route` is used only while this session is up. A route has at most one session.
    pub fn of(&self, route: RowKey) -> Fact {
        Fact::reference(route, "bfd", self.key())
    }
}
