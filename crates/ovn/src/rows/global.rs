//! `NB_Global`.

use std::collections::BTreeMap;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::map;

/// The only row of northbound settings (ovn-nb(5), `NB_Global`).
///
/// The row is shared with other clients. It carries no mark and is never removed. Only the options in this struct are
/// ours.
#[derive(Clone, Debug, Default)]
pub struct NbGlobal {
    /// `options`: northd settings, for example `use_ct_inv_match`.
    pub options: BTreeMap<String, String>,
}

impl NbGlobal {
    /// Returns the row.
    pub fn fact(&self) -> Fact {
        Fact::Row { key: RowKey::global(), seed: "".into(), columns: [("options", map(&self.options))].into() }
    }
}
