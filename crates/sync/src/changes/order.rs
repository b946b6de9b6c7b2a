//! Orders units, and merges units that need each other.

use std::collections::HashMap;

use ovn::Kind;
use ovsdb::{Datum, Replica, Uuid};

use super::collector::{Collector, Part, index};
use super::{Change, Set, Unit};

/// The first unit must be written before the second one.
type Edge = (u32, u32);

/// The first change must be written before the second one, which is of another unit.
pub(super) type Need = (u32, u32);

/// What the changes require of the order.
#[derive(Default)]
struct Order {
    edges: Vec<Edge>,
    needs: Vec<Need>,
}

/// Returns the units in an order that the database takes, and which changes need changes of other units.
pub(super) fn units(all: &Collector, replica: &Replica) -> (Vec<Unit>, Vec<Need>) {
    let mut changes: Vec<Vec<u32>> = vec![Vec::new(); all.parts.len()];
    for change in 0..index(all.changes.len()) {
        for unit in all.units_of(change) {
            if let Some(list) = changes.get_mut(unit as usize) {
                list.push(change);
            }
        }
    }
    let order = by_kind(all, &changes);
    let Order { edges, needs } = requirements(all, replica);
    let mut places = vec![0; order.len()];
    for (place, unit) in order.iter().enumerate() {
        if let Some(at) = places.get_mut(*unit as usize) {
            *at = place;
        }
    }
    let keeps = |(before, after): &Edge| places.get(*before as usize) < places.get(*after as usize);
    let parts = if edges.iter().all(keeps) {
        order.into_iter().map(|unit| vec![unit]).collect()
    } else {
        components(&order, &edges)
    };
    let unit = |mut parts: Vec<u32>| {
        parts.sort_by_key(|part| all.parts.get(*part as usize));
        let mut unit = Unit::default();
        for part in parts {
            if let Some(Part::Group(group)) = all.parts.get(part as usize) {
                unit.groups.push(group.clone());
            }
            unit.changes.extend(changes.get(part as usize).into_iter().flatten());
        }
        unit
    };
    (parts.into_iter().map(unit).collect(), needs)
}

/// Orders units with new root rows first and units that remove something last. Units that add to the same set stand
/// together, so that few mutations are needed.
fn by_kind(all: &Collector, changes: &[Vec<u32>]) -> Vec<u32> {
    let rank = |unit: u32| {
        let mut rank = (1, None, all.parts.get(unit as usize));
        let list = changes.get(unit as usize).into_iter().flatten();
        for change in list.filter_map(|at| all.changes.get(*at as usize)) {
            match change {
                Change::Insert(key, ..) if key.table.descriptor().root => rank.0 = 0,
                Change::Del(..) | Change::Delete(..) if rank.0 != 0 => rank.0 = 2,
                Change::Add(set, _) if rank.1.is_none() => rank.1 = Some(*set),
                _ => {}
            }
        }
        rank
    };
    let mut ranked: Vec<_> = (0..index(changes.len())).map(|unit| (rank(unit), unit)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, unit)| unit).collect()
}

/// The changes of rows and elements, by row.
#[derive(Default)]
struct Uses {
    inserts: HashMap<Uuid, u32>,
    /// Changes of a row and additions of it to sets, by the row.
    needs: HashMap<Uuid, Vec<u32>>,
    /// Removals from sets, by the row with the set and by the row that they refer to.
    dels: HashMap<Uuid, Vec<u32>>,
}

fn requirements(all: &Collector, replica: &Replica) -> Order {
    let removes =
        all.changes.iter().any(|change| matches!(change, Change::Del(..) | Change::Delete(..) | Change::Refer(..)));
    let mut uses = Uses::default();
    for (at, change) in all.changes.iter().enumerate() {
        match change {
            Change::Insert(_, id, _) => drop(uses.inserts.insert(*id, index(at))),
            Change::Update(_, id, _) if removes => uses.needs.entry(*id).or_default().push(index(at)),
            Change::Add(_, atom) if removes => {
                atom.as_uuid().into_iter().for_each(|id| uses.needs.entry(id).or_default().push(index(at)));
            }
            Change::Refer(set, new, old) => {
                new.filter(|_| removes).into_iter().for_each(|id| uses.needs.entry(id).or_default().push(index(at)));
                for id in [Some(set.1), *old].into_iter().flatten() {
                    uses.dels.entry(id).or_default().push(index(at));
                }
            }
            Change::Del(set, atom) => {
                for id in [Some(set.1), atom.as_uuid()].into_iter().flatten() {
                    uses.dels.entry(id).or_default().push(index(at));
                }
            }
            _ => {}
        }
    }
    let mut order = Order::default();
    // Whether each new row has a holder in its own unit, as far as it needs one.
    let mut held = vec![false; all.changes.len()];
    for (at, change) in all.changes.iter().enumerate() {
        let at = index(at);
        match change {
            Change::Insert(key, ..) if key.table.descriptor().root => held[at as usize] = true,
            Change::Add(set, atom) => put(all, &uses, *set, atom.as_uuid(), at, &mut held, &mut order),
            Change::Del(_, atom) => cut(all, &uses, atom.as_uuid(), at, &mut order),
            Change::Refer(set, new, old) => {
                put(all, &uses, *set, *new, at, &mut held, &mut order);
                cut(all, &uses, *old, at, &mut order);
            }
            Change::Delete(table, id) => {
                let dels = uses.dels.get(id).into_iter().flatten();
                let row = replica.get(table.name(), *id);
                let columns = table.descriptor().columns.iter().filter(|c| matches!(c.kind, Kind::References(_)));
                let children = columns.filter_map(|c| row?.get(c.name)).flat_map(Datum::uuids);
                let adds = children.filter_map(|child| uses.needs.get(&child)).flatten();
                dels.chain(adds).for_each(|before| link(all, *before, at, &mut order));
            }
            _ => {}
        }
    }
    hold(all, &uses, &held, &mut order.edges);
    order
}

/// A reference comes after the rows at both of its ends.
fn put(all: &Collector, uses: &Uses, set: Set, to: Option<Uuid>, at: u32, held: &mut [bool], order: &mut Order) {
    let new = to.and_then(|id| uses.inserts.get(&id));
    for before in [uses.inserts.get(&set.1), new].into_iter().flatten() {
        link(all, *before, at, order);
    }
    if let Some(&new) = new.filter(|_| holds(set)) {
        held[new as usize] |= !all.shared.contains_key(&new) && all.units_of(new).eq(all.units_of(at));
    }
}

/// A row loses a reference after all that still needs the row.
fn cut(all: &Collector, uses: &Uses, from: Option<Uuid>, at: u32, order: &mut Order) {
    for need in from.and_then(|id| uses.needs.get(&id)).into_iter().flatten() {
        if *need != at {
            link(all, *need, at, order);
        }
    }
}

/// The first change must be written before the second one, in whichever unit.
fn link(all: &Collector, before: u32, after: u32, order: &mut Order) {
    for unit in all.units_of(after) {
        if !all.units_of(before).any(|own| own == unit) {
            order.edges.extend(all.units_of(before).map(|before| (before, unit)));
            order.needs.push((before, after));
        }
    }
}

/// Returns true if a reference from this set keeps a row.
fn holds(set: Set) -> bool {
    set.0.descriptor().link(set.2).is_some_and(|link| link.strong)
}

/// Joins each unit with a new row to one that refers to it.
fn hold(all: &Collector, uses: &Uses, held: &[bool], edges: &mut Vec<Edge>) {
    let mut alone: HashMap<Uuid, u32> = uses.inserts.iter().map(|(id, at)| (*id, *at)).collect();
    alone.retain(|_, at| held.get(*at as usize) == Some(&false));
    if alone.is_empty() {
        return;
    }
    let mut holders: HashMap<u32, Vec<u32>> = HashMap::new();
    for (at, change) in all.changes.iter().enumerate() {
        let (set, to) = match change {
            Change::Add(set, atom) => (set, atom.as_uuid()),
            Change::Refer(set, new, _) => (set, *new),
            _ => continue,
        };
        let new = to.and_then(|id| alone.get(&id)).filter(|_| holds(*set));
        if let Some(new) = new {
            holders.entry(*new).or_default().extend(all.units_of(index(at)));
        }
    }
    for (new, mut holders) in holders {
        holders.sort_unstable();
        for unit in all.units_of(new).filter(|unit| holders.binary_search(unit).is_err()) {
            edges.extend(holders.first().into_iter().flat_map(|holder| [(unit, *holder), (*holder, unit)]));
        }
    }
}

/// Returns the strongly connected components, each before those that its units must precede (Tarjan's algorithm). Where
/// the edges leave it open, the order stays as it is.
fn components(order: &[u32], edges: &[Edge]) -> Vec<Vec<u32>> {
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); order.len()];
    for (first, second) in edges {
        if let Some(list) = before.get_mut(*second as usize) {
            list.push(*first);
        }
    }
    let mut search = Search { number: vec![None; order.len()], low: vec![0; order.len()], ..Search::default() };
    for unit in order {
        search.from(*unit, &before);
    }
    search.found
}

#[derive(Default)]
struct Search {
    /// When each unit was met. A unit that is in a component has the highest number.
    number: Vec<Option<u32>>,
    low: Vec<u32>,
    met: u32,
    open: Vec<u32>,
    found: Vec<Vec<u32>>,
}

impl Search {
    fn from(&mut self, start: u32, before: &[Vec<u32>]) {
        if self.number[start as usize].is_some() {
            return;
        }
        let mut path = vec![(start, 0)];
        while let Some((unit, next)) = path.last_mut() {
            let (unit, at) = (*unit as usize, *next);
            if at == 0 {
                self.number[unit] = Some(self.met);
                self.low[unit] = self.met;
                self.met += 1;
                self.open.push(index(unit));
            }
            if let Some(&other) = before[unit].get(at) {
                *next += 1;
                match self.number[other as usize] {
                    None => path.push((other, 0)),
                    Some(number) => self.low[unit] = self.low[unit].min(number),
                }
                // A unit is met once, whatever comes first on its list.
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                self.low[*parent as usize] = self.low[*parent as usize].min(self.low[unit]);
            }
            if self.number[unit] == Some(self.low[unit]) {
                let from = self.open.iter().rposition(|open| *open as usize == unit).unwrap_or_default();
                let component = self.open.split_off(from);
                for unit in &component {
                    self.number[*unit as usize] = Some(u32::MAX);
                }
                self.found.push(component);
            }
        }
    }
}
