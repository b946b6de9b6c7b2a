//! `NB_Global`.

use std::collections::BTreeMap;

use crate::fact::Fact;
use crate::key::RowKey;
use crate::rows::map;

/// The one row of settings for all of northbound (ovn-nb(5), `NB_Global`).
///
/// It is everybody's: it carries no mark of ours, so it is never removed, and only the options named here are ours.
#[derive(Clone, Debug, Default)]
pub struct NbGlobal {
    /// `options`: settings of northd, such as `use_ct_inv_match`.
    pub options: BTreeMap<String, String>,
}

impl NbGlobal {
    /// The row.
    pub fn fact(&self) -> Fact {
        Fact::Row { key: RowKey::global(), seed: "".into(), columns: [("options", map(&self.options))].into() }
    }
}
