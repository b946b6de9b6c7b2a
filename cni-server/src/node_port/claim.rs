//! Which chassis has the address of the node's tunnel.
//!
//! The southbound database takes a tunnel address once. An ovn-controller whose address another chassis has can register
//! nothing at all, and tries without end. That happens when two machines have one address, and when a machine was set up
//! anew, so that its chassis has another name than before. The agent then gives the chassis a stand-in address, and reports
//! who has the real one: the controller removes a chassis of the same node, and tells of one of another node.
//!
//! The agent asks the database that its ovn-controller uses, and only for the rows of its own addresses, most often one.
//! An address in a further network that another chassis has is left out.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use keys::Keys;
use ovn::southbound::{self, Encap};
use ovsdb::client::{Changes, Client, Config, Endpoint};
use ovsdb::{Condition, Function, Replica, Uuid};

use crate::southbound::tls_files;

/// The claim of the node's chassis to its tunnel address.
#[derive(Debug, Default)]
pub(super) struct Claim {
    wanted: Option<Wanted>,
    session: Option<(Client, Changes)>,
    /// Whether the database has answered since the claim was made.
    answered: bool,
    /// The other chassis that had the address according to the last report. It counts until the database answers.
    reported: Option<String>,
    /// The cluster of the server that answered last. It is asked again when the session may be another one.
    cluster: Option<Uuid>,
    is_cluster_known: bool,
}

/// What a claim is about. A change of any part but the servers makes a new claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The address.
    pub(super) address: IpAddr,
    /// The addresses in further networks of the node.
    pub(super) others: Vec<IpAddr>,
    /// The encapsulation. An address is free for another one.
    pub(super) encapsulation: &'static str,
    /// The name of the node's chassis.
    pub(super) chassis: String,
    /// The southbound database servers.
    pub(super) servers: BTreeSet<String>,
    /// The key of the chassis.
    pub(super) keys: Keys,
}

impl Claim {
    /// Makes the claim, if it is a new one. Returns the other chassis that has the address. `reported` is what the node has
    /// reported last. While the database is away, what it said last counts.
    pub(super) fn make(&mut self, wanted: &Wanted, reported: Option<(IpAddr, String)>) -> Option<String> {
        let is_same_but_servers =
            |before: &Wanted| Wanted { servers: wanted.servers.clone(), ..before.clone() } == *wanted;
        if let (Some(before), Some((client, _))) = (&self.wanted, &self.session)
            && !wanted.servers.is_empty()
            && is_same_but_servers(before)
        {
            if before.servers != wanted.servers {
                client.use_endpoints(wanted.endpoints());
                self.is_cluster_known = false;
                self.wanted = Some(wanted.clone());
            }
        } else if self.wanted.as_ref() != Some(wanted) {
            self.session = connect(wanted);
            self.wanted = Some(wanted.clone());
            self.answered = false;
            self.is_cluster_known = false;
            self.reported = reported.filter(|(address, _)| *address == wanted.address).map(|(_, chassis)| chassis);
        }
        let (client, _) = self.session.as_ref()?;
        self.answered |= *client.connected().borrow();
        if !self.answered {
            return self.reported.clone();
        }
        client.read(|replica| other_holder(replica, wanted, wanted.address))
    }

    /// Returns whether these are the servers at which the claim was made. Without a claim, any are.
    pub(super) fn is_made_at(&self, servers: Option<&BTreeSet<String>>) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| Some(&wanted.servers) == servers)
    }

    /// Returns whether the chassis can have an address of [`Wanted::others`]. Before the database has answered, it can if it
    /// has it already (`registered`). Without a database to ask, it can.
    pub(super) fn allows(&self, address: IpAddr, registered: bool) -> bool {
        match (&self.session, &self.wanted) {
            (Some((client, _)), Some(wanted)) if self.answered => {
                client.read(|replica| other_holder(replica, wanted, address).is_none())
            }
            (Some(_), _) => registered,
            (None, _) => true,
        }
    }

    /// Returns the ID of the cluster whose server has answered last. A standalone database has none.
    pub(super) async fn cluster(&mut self) -> Option<Uuid> {
        let (client, _) = self.session.as_ref()?;
        if !self.is_cluster_known
            && let Ok(cluster) = client.cluster().await
        {
            self.is_cluster_known = true;
            self.cluster = cluster.or(self.cluster);
        }
        self.cluster
    }

    /// Waits until a chassis takes or leaves the address, or a session begins. Never returns without a claim. Cancel safe.
    pub(super) async fn changed(&mut self) {
        match &mut self.session {
            Some((_, changes)) => {
                changes.next().await;
                self.is_cluster_known = false;
            }
            None => std::future::pending().await,
        }
    }
}

impl Wanted {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.servers.iter().filter_map(|server| server.parse().ok()).collect()
    }
}

/// Returns the chassis that has an address, if it is not the node's own.
fn other_holder(replica: &Replica, wanted: &Wanted, address: IpAddr) -> Option<String> {
    let address = address.to_string();
    let holders = || Encap::all(replica).filter(|encap| encap.kind == wanted.encapsulation && encap.ip == address);
    let is_ours = holders().any(|encap| encap.chassis == wanted.chassis);
    holders().next().filter(|_| !is_ours).map(|encap| encap.chassis)
}

fn connect(wanted: &Wanted) -> Option<(Client, Changes)> {
    let mut config = Config::new(wanted.endpoints(), southbound::DATABASE, southbound::encaps());
    // The agent makes ovn-controller connect to a new cluster. Nodes that do it at different times have no tunnels in between.
    config.backoff = (Duration::from_millis(50), Duration::from_millis(300));
    config.tls = Some(tls_files(&wanted.keys));
    let own = |ip: &IpAddr| Condition { column: "ip", function: Function::Equal, value: ip.to_string().into() };
    let all = [&wanted.address].into_iter().chain(&wanted.others);
    config.only = all.map(|ip| (southbound::ENCAP, own(ip))).collect();
    (!config.endpoints.is_empty()).then(|| Client::spawn(config))
}

/// Returns the address that a chassis has as long as another one has its own. It is derived from the name of the chassis, so
/// that two chassis with the same one are improbable.
pub(super) fn stand_in(id: &str) -> IpAddr {
    let [.., a, b, c] = *Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).as_bytes();
    Ipv4Addr::new(127, a | 1, b, c).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chassis_has_a_stand_in_of_its_own() {
        let (one, two) = (stand_in("f63c9655-17dc"), stand_in("f63c9655-17dd"));
        assert!(one.is_loopback() && one != two);
    }

    #[tokio::test]
    async fn until_the_database_answers_the_last_report_counts() {
        let wanted = |remote: &str| Wanted {
            address: Ipv4Addr::LOCALHOST.into(),
            others: Vec::new(),
            encapsulation: "geneve",
            chassis: "id".to_owned(),
            servers: [remote.to_owned()].into(),
            keys: Keys::new("/none".into()),
        };
        let of = |address: &str| Some((address.parse().unwrap(), "other".to_owned()));
        // Nobody listens on port 1, and there may be no key yet.
        for away in ["tcp:127.0.0.1:1", "ssl:127.0.0.1:1"].map(wanted) {
            assert_eq!(Claim::default().make(&away, None), None);
            assert_eq!(Claim::default().make(&away, of("127.0.0.2")), None);
            assert_eq!(Claim::default().make(&away, of("127.0.0.1")).as_deref(), Some("other"));
        }
        // It cannot be asked at all.
        for remote in ["", "nonsense"] {
            assert_eq!(Claim::default().make(&wanted(remote), of("127.0.0.1")), None);
        }
    }
}
