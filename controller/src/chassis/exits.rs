//! Which chassis is active for each centralized subnet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ovn::southbound;
use ovsdb::Replica;
use tokio::time::Instant;

/// How long a chassis must be active before that counts. When the first sessions of BFD begin, each chassis takes itself for
/// the active one for a moment.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// The active chassis of each centralized subnet.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// Those that have been active for [`SETTLED`].
    pub(super) settled: BTreeMap<Arc<str>, Arc<str>>,
    /// Others, and since when.
    fresh: BTreeMap<Arc<str>, (Arc<str>, Instant)>,
}

impl Exits {
    /// Takes what the database says at `now`. Returns whether another chassis has settled, or a subnet is gone.
    pub(super) fn update(&mut self, active: BTreeMap<Arc<str>, Arc<str>>, now: Instant) -> bool {
        let mut settled = BTreeMap::new();
        let mut fresh = BTreeMap::new();
        for (subnet, chassis) in active {
            let before = self.settled.get(&subnet);
            if before == Some(&chassis) {
                settled.insert(subnet, chassis);
                continue;
            }
            let since = self.fresh.get(&subnet).filter(|(same, _)| *same == chassis).map_or(now, |(_, since)| *since);
            if now >= since + SETTLED {
                settled.insert(subnet, chassis);
            } else {
                settled.extend(before.map(|before| (Arc::clone(&subnet), Arc::clone(before))));
                fresh.insert(subnet, (chassis, since));
            }
        }
        self.fresh = fresh;
        let changed = settled != self.settled;
        self.settled = settled;
        changed
    }

    /// When the next one settles.
    pub(super) fn next(&self) -> Option<Instant> {
        self.fresh.values().map(|(_, since)| *since + SETTLED).min()
    }
}

/// The active chassis of each centralized subnet whose pods leave by one node, as the database has it.
pub(super) fn active(replica: &Replica) -> BTreeMap<Arc<str>, Arc<str>> {
    let all = southbound::active(replica).filter_map(|(port, chassis)| match plan::exit_of(port)? {
        (subnet, None) => Some((subnet.into(), chassis.into())),
        _ => None,
    });
    all.collect()
}
