//! Which chassis has the address of the node's tunnel.
//!
//! The southbound database takes a tunnel address once. An ovn-controller whose address another chassis has can register
//! nothing at all, and tries without end. That happens when two machines have one address, and when a machine was set up
//! anew, so that its chassis has another name than before. The agent then gives the chassis a stand-in address, and reports
//! who has the real one: the controller removes a chassis of the same node, and tells of one of another node.
//!
//! The agent asks the database that its ovn-controller uses, and only for the rows of its own address. The session ends as
//! soon as the chassis has the address.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use ovn::southbound::{self, Encap};
use ovsdb::client::{Changes, Client, Config, Endpoint};
use ovsdb::{Condition, Function};

/// The claim of the node's chassis to its tunnel address.
#[derive(Debug, Default)]
pub(super) struct Claim {
    wanted: Option<Wanted>,
    session: Option<(Client, Changes)>,
}

/// What a claim is about. A change of any part makes a new claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The address.
    pub(super) address: IpAddr,
    /// The name of the node's chassis.
    pub(super) chassis: String,
    /// The southbound database servers, as in `ovn-remote`.
    pub(super) remote: String,
}

impl Claim {
    /// Makes the claim, if it is a new one. Returns the other chassis that has the address. As long as the database does not
    /// answer, nobody has it.
    pub(super) fn make(&mut self, wanted: &Wanted) -> Option<String> {
        if self.wanted.as_ref() != Some(wanted) {
            self.session = connect(wanted);
            self.wanted = Some(wanted.clone());
        }
        let (client, _) = self.session.as_ref()?;
        if !*client.connected().borrow() {
            return None;
        }
        let holder = client.read(|replica| Encap::all(replica).next().map(|encap| encap.chassis));
        if holder.as_deref() == Some(&*wanted.chassis) {
            self.session = None;
            return None;
        }
        holder
    }

    /// Waits until another chassis takes or leaves the address, or this one gets it. Never returns without a claim.
    pub(super) async fn changed(&mut self) {
        match &mut self.session {
            Some((_, changes)) => drop(changes.next().await),
            None => std::future::pending().await,
        }
    }
}

fn connect(wanted: &Wanted) -> Option<(Client, Changes)> {
    let endpoints: Vec<Endpoint> =
        wanted.remote.split(',').filter_map(|endpoint| endpoint.trim().parse().ok()).collect();
    let own = Condition { column: "ip", function: Function::Equal, value: wanted.address.to_string().into() };
    let mut config = Config::new(endpoints, southbound::DATABASE, southbound::encaps());
    config.only = vec![(southbound::ENCAP, own)];
    (!config.endpoints.is_empty()).then(|| Client::spawn(config))
}

/// Returns an address that a chassis has as long as another one has its own, and that no other chassis has.
pub(super) fn stand_in(id: &str) -> IpAddr {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let [.., a, b, c] = hasher.finish().to_be_bytes();
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

    #[test]
    fn without_a_database_nobody_has_the_address() {
        let wanted = |remote: &str| Wanted {
            address: Ipv4Addr::LOCALHOST.into(),
            chassis: "id".to_owned(),
            remote: remote.to_owned(),
        };
        assert_eq!(Claim::default().make(&wanted("")), None);
        assert_eq!(Claim::default().make(&wanted("nonsense")), None);
    }
}
