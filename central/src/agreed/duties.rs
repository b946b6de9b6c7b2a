//! What a running member does for its cluster, from what is recorded and what its server says. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::decision::Me;
use super::record::{Record, Server as Recorded};
use crate::file::Identity;
use crate::standing::{Server, Standing};

/// The addresses of the nodes with members, by name.
pub type Labelled = BTreeMap<String, Vec<IpAddr>>;

/// What a member does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// What it records.
    pub record: Option<Record>,
    /// The IDs of the servers that it removes from the cluster.
    pub kick: Vec<String>,
    /// Why the server is started again with another file.
    pub restart: Option<&'static str>,
    /// Whether that file is made of this one, which must be whole then.
    pub founds: bool,
    /// Whether its server leads, and no one may know it: it leaves the cluster.
    pub leave: bool,
}

/// Returns what the member does next. `standing` was asked for after the record was read.
pub fn duties(record: &Record, standing: &Standing, me: Me<'_>, labelled: &Labelled) -> Duties {
    let names: BTreeSet<String> = labelled.keys().cloned().collect();
    if !names.contains(me.node) {
        // This member is about to end. The others remove its server, unless it leads.
        let others = record.others_with_data(me.node, &names).next().is_some();
        return Duties { leave: standing.leads && others, ..Duties::default() };
    }
    if standing.status == "leaving cluster" {
        // Nobody asks a member for that: it was taken for another one, or by hand. With its file, it goes on, or joins again.
        return Duties::restart("it is leaving its cluster");
    }
    if standing.joining {
        return joining(record, standing, me, &names);
    }
    let Some(identity) = standing.identity() else { return Duties::default() };
    let is_other_cluster = record.cluster.is_some_and(|cluster| cluster != identity.cluster);
    if record.gone.contains_key(&identity.server) && !is_other_cluster {
        return Duties::restart("it is recorded as gone");
    }
    if !standing.connected {
        if is_other_cluster {
            return Duties::restart("another cluster is recorded");
        }
        return alone(record, standing, &identity, me, labelled);
    }
    if is_other_cluster && !covers_majority(standing, labelled) {
        return Duties::restart("another cluster is recorded, and this one is not that of most members");
    }
    if is_other_cluster && record.superseded.contains(&identity.cluster) {
        return Duties::restart("another cluster has taken the place of this one");
    }
    let mut new = record.clone();
    if is_other_cluster {
        new.succeeds(identity.cluster);
        new = Record { cluster: new.cluster, superseded: new.superseded, ..Record::default() };
    }
    if new.servers.get(me.node).is_none_or(|server| !server.joined || server.id != identity.server) {
        new.joined(me.node, &identity);
    }
    new.cluster = Some(identity.cluster);
    // The majority that was missed is there again.
    new.survivor = None;
    let mut kick = Vec::new();
    if standing.leads {
        kick = lead(&mut new, standing, labelled);
    }
    Duties { record: (new != *record).then_some(new), kick, ..Duties::default() }
}

/// What the leader does: it removes servers that never come back, and keeps the record short.
fn lead(record: &mut Record, standing: &Standing, labelled: &Labelled) -> Vec<String> {
    let others = || standing.servers.iter().filter(|server| !server.is_self);
    // A server that says that it has joined was in the configuration before it said so.
    let removed: Vec<_> = record
        .servers
        .values()
        .filter(|server| server.joined)
        .filter(|server| !standing.servers.iter().any(|other| other.is(server.id, &server.address)))
        .map(|server| (server.id, server.address.clone()))
        .collect();
    record.gone.extend(removed);
    let kick =
        others().filter(|server| is_gone(server, record, standing, labelled)).map(|server| server.id.clone()).collect();
    let listed = |id, address: &str| others().any(|server| server.is(id, address));
    record.servers.retain(|node, server| labelled.contains_key(node) || listed(server.id, &server.address));
    let is_recorded: BTreeSet<_> = record.servers.values().map(|server| server.id).collect();
    record.gone.retain(|id, address| is_recorded.contains(id) || listed(*id, address));
    kick
}

/// Returns true if a server of the cluster never comes back: its file is gone, its node has another server, or its node has no
/// members any more.
fn is_gone(server: &Server, record: &Record, standing: &Standing, labelled: &Labelled) -> bool {
    if record.gone.iter().any(|(id, address)| server.is(*id, address)) {
        return true;
    }
    // Two nodes can have the same address, as when a machine was registered again with another name.
    let is_its_own = |(node, recorded): (&String, &Recorded)| {
        labelled.contains_key(node) && server.is(recorded.id, &recorded.address)
    };
    if record.servers.iter().any(is_its_own) {
        return false;
    }
    match record.servers.iter().find(|(_, recorded)| recorded.address == server.address) {
        Some((node, recorded)) if server.is(recorded.id, &recorded.address) => !labelled.contains_key(node),
        // Its node has made another one, unless the record is of the past.
        Some((_, recorded)) => {
            !recorded.joined || standing.servers.iter().any(|other| other.is(recorded.id, &recorded.address))
        }
        // Nobody has recorded it: one of an earlier version, or the record was lost.
        None => {
            let known = labelled.values().all(|addresses| !addresses.is_empty());
            let has_label = |host| labelled.values().flatten().any(|address| *address == host);
            known && server.host().is_some_and(|host| !has_label(host))
        }
    }
}

/// What a member does whose cluster has no leader: if there can never be one again, it founds the cluster anew.
fn alone(record: &Record, standing: &Standing, identity: &Identity, me: Me<'_>, labelled: &Labelled) -> Duties {
    let mut new = record.clone();
    new.joined(me.node, identity);
    if record.cluster.is_none() {
        // The record was lost.
        return Duties { record: Some(new), ..Duties::default() };
    }
    let names: BTreeSet<String> = labelled.keys().cloned().collect();
    let others = || standing.servers.iter().filter(|server| !server.is_self);
    let gone = others().filter(|server| is_gone(server, record, standing, labelled)).count();
    let left = standing.servers.len() - gone;
    let is_known = |id, address: &str| standing.servers.iter().any(|server| server.is(id, address));
    let mut moved_on = record.others_with_data(me.node, &names).filter(|server| !is_known(server.id, &server.address));
    if moved_on.next().is_some() {
        // The cluster has members that this server has not been told of, so it goes on without this one.
        return Duties::default();
    }
    match &record.survivor {
        Some(survivor) if survivor == me.node => {
            Duties { founds: true, ..Duties::restart("it founds the cluster anew from its data") }
        }
        Some(survivor) if names.contains(survivor) => Duties::default(),
        _ if gone > 0 && left * 2 <= standing.servers.len() => {
            new.survivor = Some(me.node.to_owned());
            Duties { record: Some(new), ..Duties::default() }
        }
        _ => Duties::default(),
    }
}

/// What a member does that has no data yet: if it waits for the wrong servers, it decides again.
fn joining(record: &Record, standing: &Standing, me: Me<'_>, labelled: &BTreeSet<String>) -> Duties {
    let mut others = record.others_with_data(me.node, labelled).peekable();
    let Some(cluster) = record.cluster else { return Duties::restart("no cluster is recorded any more") };
    // A server that asks to join learns the cluster of the first one that answers, and does not join another one any more.
    if standing.cluster.is_some_and(|joins| joins != cluster) {
        return Duties::restart("it would join a cluster of the past");
    }
    if others.peek().is_none() {
        return Duties::restart("no other member has the data");
    }
    if !others.any(|server| standing.remotes.contains(&server.address)) {
        return Duties::restart("the members that it would join have no data any more");
    }
    Duties::default()
}

/// Returns true if the servers of the cluster are those of most nodes with members.
fn covers_majority(standing: &Standing, labelled: &Labelled) -> bool {
    let hosts: BTreeSet<IpAddr> = standing.servers.iter().filter_map(Server::host).collect();
    let covered = labelled.values().filter(|addresses| addresses.iter().any(|address| hosts.contains(address))).count();
    covered * 2 > labelled.len()
}

impl Duties {
    /// Whether something is done to other members. Then the nodes with members must not be those of the past.
    pub fn concerns_others(&self, record: &Record) -> bool {
        let stands = self.record.as_ref().is_some_and(|new| new.survivor != record.survivor);
        !self.kick.is_empty() || stands || self.leave
    }

    fn restart(why: &'static str) -> Self {
        Self { restart: Some(why), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ME: Me<'static> = Me { node: "n1", address: "tcp:10.0.0.1:6643" };
    const CLUSTER: Uuid = Uuid::from_u128(100);

    /// The ID of the nth server of a node.
    fn id(node: u8, nth: u8) -> Uuid {
        Uuid::from_u128((u128::from(node) << 120) | (u128::from(nth) << 112))
    }

    fn address(node: u8) -> String {
        format!("tcp:10.0.0.{node}:6643")
    }

    fn labelled(nodes: &[u8]) -> Labelled {
        nodes.iter().map(|node| (format!("n{node}"), vec![IpAddr::from([10, 0, 0, *node])])).collect()
    }

    /// A cluster of these servers, as n1 sees it.
    fn standing(leads: bool, connected: bool, servers: &[(u8, u8)]) -> Standing {
        let server = |(node, nth): &(u8, u8)| Server {
            id: id(*node, *nth).simple().to_string()[..4].to_owned(),
            address: address(*node),
            is_self: *node == 1,
        };
        Standing {
            status: "cluster member".to_owned(),
            connected,
            leads,
            cluster: Some(CLUSTER),
            server: Some(id(1, 1)),
            address: address(1),
            servers: servers.iter().map(server).collect(),
            ..Standing::default()
        }
    }

    /// A record of servers that have joined.
    fn record(servers: &[(u8, u8)]) -> Record {
        let mut record = Record::default();
        for (node, nth) in servers {
            let identity = Identity { cluster: CLUSTER, server: id(*node, *nth), address: address(*node) };
            record.joined(&format!("n{node}"), &identity);
        }
        record
    }

    const THREE: [(u8, u8); 3] = [(1, 1), (2, 1), (3, 1)];

    fn leading(record: &Record, servers: &[(u8, u8)], nodes: &[u8]) -> Duties {
        duties(record, &standing(true, true, servers), ME, &labelled(nodes))
    }

    fn lost(record: &Record, servers: &[(u8, u8)], nodes: &[u8]) -> Duties {
        duties(record, &standing(false, false, servers), ME, &labelled(nodes))
    }

    #[test]
    fn a_whole_cluster_needs_nothing() {
        assert_eq!(leading(&record(&THREE), &THREE, &[1, 2, 3]), Duties::default());
        assert_eq!(lost(&record(&THREE), &THREE, &[1, 2, 3]), Duties::default(), "the others may come back");
    }

    #[test]
    fn a_member_is_recorded_when_it_has_joined_and_when_the_record_is_lost() {
        let mut new = record(&[(1, 1)]);
        new.joins("n2", id(2, 1), &address(2));
        let one = standing(false, true, &[(1, 1), (2, 1)]);
        let two = Standing { server: Some(id(2, 1)), address: address(2), ..one };
        let me = Me { node: "n2", address: "tcp:10.0.0.2:6643" };
        let done = duties(&new, &two, me, &labelled(&[1, 2]));
        assert!(done.record.unwrap().servers["n2"].joined);
        let kept = leading(&Record::default(), &THREE, &[1, 2, 3]).record.unwrap();
        assert_eq!((kept.cluster, kept.servers.len()), (Some(CLUSTER), 1), "the others record themselves");
    }

    #[test]
    fn the_leader_removes_servers_that_never_come_back() {
        let short = |node, nth| id(node, nth).simple().to_string()[..4].to_owned();
        let mut replaced = record(&THREE);
        replaced.joins("n3", id(3, 2), &address(3));
        let now = [(1, 1), (2, 1), (3, 1)];
        assert_eq!(leading(&replaced, &now, &[1, 2, 3]).kick, [short(3, 1)]);
        let both = [(1, 1), (2, 1), (3, 1), (3, 2)];
        assert_eq!(leading(&replaced, &both, &[1, 2, 3]).kick, [short(3, 1)]);
        // It is gone, and forgotten.
        let after = leading(&replaced, &[(1, 1), (2, 1), (3, 2)], &[1, 2, 3]);
        assert!(after.kick.is_empty() && after.record.unwrap().gone.is_empty());
        // A node without the label.
        assert_eq!(leading(&record(&THREE), &THREE, &[1, 2]).kick, [short(3, 1)]);
        let after = leading(&record(&THREE), &[(1, 1), (2, 1)], &[1, 2]);
        assert!(after.kick.is_empty() && !after.record.unwrap().servers.contains_key("n3"));
        // Nobody has recorded it, and its node has no label.
        assert_eq!(leading(&record(&[(1, 1), (2, 1)]), &THREE, &[1, 2]).kick, [short(3, 1)]);
        // The record is of the past: each of them corrects its own part.
        assert!(leading(&record(&[(1, 1), (2, 7), (3, 1)]), &THREE, &[1, 2, 3]).kick.is_empty());
        // A member that is not recorded yet, for example one of an earlier version.
        assert_eq!(leading(&record(&[(1, 1)]), &THREE, &[1, 2, 3]), Duties::default());
        // A majority is there again after all.
        let chosen = Record { survivor: Some("n1".to_owned()), ..record(&THREE) };
        assert_eq!(leading(&chosen, &THREE, &[1, 2, 3]).record.unwrap().survivor, None);
    }

    /// n3 was lost, and its machine is n4 now, with the same address.
    #[test]
    fn a_server_of_a_node_with_the_address_of_another_stays() {
        let mut both = record(&THREE);
        for nth in [1, 2] {
            let identity = Identity { cluster: CLUSTER, server: id(3, nth), address: address(3) };
            both.joined("n4", &identity);
            let mut nodes = labelled(&[1, 2, 3]);
            nodes.insert("n4".to_owned(), nodes["n3"].clone());
            let servers: &[(u8, u8)] = if nth == 1 { &THREE } else { &[(1, 1), (2, 1), (3, 1), (3, 2)] };
            let kick = |nodes: &Labelled| duties(&both, &standing(true, true, servers), ME, nodes).kick;
            assert_eq!(kick(&nodes), [""; 0], "n3 has recorded one, and n4 the other");
            nodes.remove("n3");
            let former = id(3, 1).simple().to_string()[..4].to_owned();
            assert_eq!(kick(&nodes), if nth == 1 { vec![] } else { vec![former] });
        }
    }

    #[test]
    fn a_member_that_leaves_its_cluster_is_started_again() {
        let leaving = Standing { status: "leaving cluster".to_owned(), ..standing(false, false, &[(1, 1)]) };
        assert!(duties(&record(&[(1, 1)]), &leaving, ME, &labelled(&[1])).restart.is_some());
        assert_eq!(duties(&record(&[(1, 1)]), &leaving, ME, &labelled(&[2])), Duties::default(), "it is about to end");
    }

    #[test]
    fn a_leader_without_the_label_leaves_if_others_have_the_data() {
        assert!(leading(&record(&THREE), &THREE, &[2, 3]).leave);
        assert!(!lost(&record(&THREE), &THREE, &[2, 3]).leave);
        assert!(!leading(&record(&[(1, 1)]), &[(1, 1)], &[2]).leave, "n2 has not joined yet");
    }

    #[test]
    fn a_server_that_was_removed_is_told_and_joins_anew() {
        let told = leading(&record(&THREE), &[(1, 1), (2, 1)], &[1, 2, 3]).record.unwrap();
        assert!(told.gone.contains_key(&id(3, 1)));
        let mut gone = record(&THREE);
        gone.gone.insert(id(1, 1), address(1));
        assert!(lost(&gone, &THREE, &[1, 2, 3]).restart.is_some());
    }

    #[test]
    fn without_a_majority_that_can_come_back_a_survivor_founds_the_cluster_anew() {
        let mut two_lost = record(&THREE);
        two_lost.joins("n2", id(2, 2), &address(2));
        assert_eq!(lost(&two_lost, &THREE, &[1, 2, 3]), Duties::default(), "the third has the data");
        two_lost.joins("n3", id(3, 2), &address(3));
        let chosen = lost(&two_lost, &THREE, &[1, 2, 3]).record.unwrap();
        assert_eq!(chosen.survivor.as_deref(), Some("n1"));
        assert!(lost(&chosen, &THREE, &[1, 2, 3]).restart.is_some());
        let other = Record { survivor: Some("n3".to_owned()), ..chosen.clone() };
        assert_eq!(lost(&other, &THREE, &[1, 2, 3]), Duties::default(), "another one does");
        assert!(lost(&other, &THREE, &[1, 2]).record.is_some(), "which is gone meanwhile");
        // Shrunk to one at once, and one of two.
        assert!(lost(&record(&THREE), &THREE, &[1]).record.is_some());
        assert!(lost(&record(&[(1, 1), (2, 1)]), &[(1, 1), (2, 1)], &[1]).record.is_some());
        // The others have gone on, and this server has not been told yet.
        for node in [2, 3] {
            let identity = Identity { cluster: CLUSTER, server: id(node, 2), address: address(node) };
            two_lost.joined(&format!("n{node}"), &identity);
        }
        assert_eq!(lost(&two_lost, &THREE, &[1, 2, 3]), Duties::default());
        // The record was lost.
        let kept = lost(&Record::default(), &THREE, &[1, 2, 3]).record.unwrap();
        assert_eq!((kept.cluster, kept.servers.len()), (Some(CLUSTER), 1));
        // With no label at all, nothing is known.
        assert_eq!(lost(&record(&THREE), &THREE, &[]), Duties::default());
    }

    #[test]
    fn of_two_clusters_the_one_of_most_members_stays() {
        let mut other = record(&THREE);
        other.cluster = Some(Uuid::from_u128(7));
        assert_eq!(leading(&other, &THREE, &[1, 2, 3]).record.unwrap().cluster, Some(CLUSTER), "a record of the past");
        assert!(leading(&other, &[(1, 1)], &[1, 2, 3]).restart.is_some());
        assert!(lost(&other, &THREE, &[1, 2, 3]).restart.is_some());
    }

    /// Two disks of three were lost, the third member founded a cluster, and then the two are mounted again.
    #[test]
    fn a_cluster_that_another_one_has_succeeded_has_no_say_any_more() {
        let mut now = record(&THREE);
        let next = Identity { cluster: Uuid::from_u128(7), server: id(3, 2), address: address(3) };
        now.founds("n3", &next);
        assert_eq!((now.cluster, &now.superseded[..]), (Some(next.cluster), &[CLUSTER][..]));
        assert!(leading(&now, &THREE, &[1, 2, 3]).restart.is_some());
        // The record of a cluster that came later than the one that runs is of the past as well.
        let other = Identity { cluster: Uuid::from_u128(8), ..next };
        let mut later = Record { superseded: vec![], ..now };
        later.founds("n3", &other);
        let kept = leading(&later, &THREE, &[1, 2, 3]).record.unwrap();
        assert_eq!((kept.cluster, kept.superseded), (Some(CLUSTER), vec![Uuid::from_u128(7), Uuid::from_u128(8)]));
        for _ in 0..20 {
            later.succeeds(Uuid::new_v4());
        }
        assert_eq!(later.superseded.len(), 16);
    }

    #[test]
    fn one_that_joins_waits_only_for_those_with_data() {
        let mut record = record(&THREE);
        record.joins("n1", id(1, 2), &address(1));
        let joining = |record: &Record, remotes: &[u8]| {
            let remotes = remotes.iter().map(|node| address(*node)).collect();
            let standing = Standing { joining: true, remotes, cluster: Some(CLUSTER), ..Standing::default() };
            duties(record, &standing, ME, &labelled(&[1, 2, 3])).restart
        };
        assert_eq!(joining(&record, &[2, 3]), None);
        assert_eq!(joining(&record, &[3]), None);
        assert!(joining(&record, &[4]).is_some());
        let anew = Record { cluster: Some(Uuid::from_u128(7)), ..record.clone() };
        assert!(joining(&anew, &[2, 3]).is_some());
        record.joins("n2", id(2, 2), &address(2));
        assert_eq!(joining(&record, &[2, 3]), None);
        record.joins("n3", id(3, 2), &address(3));
        assert!(joining(&record, &[2, 3]).is_some());
    }
}
