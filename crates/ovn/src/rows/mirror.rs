//! `Mirror`: where nodes send copies of the packets of ports.

use std::net::IpAddr;
use std::sync::Arc;

use ovsdb::Datum;

use super::LogicalSwitchPort;
use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::marked;
use crate::table::TableId;

/// A collector (ovn-nb(5), `Mirror`). Ports that refer to it are mirrored in both directions. Open vSwitch cannot have two
/// tunnels with the same parameters, so the parameters are the name: all subnets with the same collector share a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// `sink`.
    pub sink: IpAddr,
    /// `type`: `gre` or `erspan`.
    pub kind: &'static str,
    /// `index`: the key of GRE, or the session and index of ERSPAN.
    pub index: u32,
}

impl Mirror {
    fn key(self) -> RowKey {
        RowKey::new(TableId::Mirror, format!("remote-{}-{}-{}", self.kind, self.sink, self.index))
    }

    /// Returns the row.
    pub fn fact(self) -> Fact {
        let key = self.key();
        let columns = [
            ("name", Datum::from(Arc::clone(&key.name))),
            ("filter", Datum::from("both")),
            ("sink", Datum::from(self.sink.to_string().as_str())),
            ("type", Datum::from(self.kind)),
            ("index", Datum::from(i64::from(self.index))),
            ("external_ids", marked(&[])),
        ];
        Fact::Row { key, seed: "".into(), columns: columns.into() }
    }

    /// Returns the fact that the packets of the switch port `port` are copied.
    pub fn member(self, port: &str) -> Fact {
        Fact::reference(LogicalSwitchPort::key(port), "mirror_rules", self.key())
    }
}
