//! Which subnets are in force on this node, from the Subnet objects as the watch shows them. Pure.
//!
//! A Subnet is in force while its status says so. The controller empties the status before it lets a deletion finish. So
//! an object that vanishes while its last known status had something in force was deleted by force: its finalizer was
//! removed by hand, and pods still have its addresses. It stays in force until it has a status of its own again, or until
//! no IP object names it any more.

use std::collections::BTreeMap;

use api::{EffectiveSubnet, FieldError};

/// What a Subnet object says is in force. An error means that its status is not readable.
pub type Status = Result<Option<EffectiveSubnet>, FieldError>;

/// A Subnet object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its uid.
    pub uid: String,
    /// What it says is in force.
    pub status: Status,
}

/// The subnets in force.
#[derive(Clone, Debug, Default)]
pub struct InForce(BTreeMap<String, Kept>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// The uid of the object that says so.
    uid: String,
    subnet: EffectiveSubnet,
    /// Whether that object was deleted by force.
    vanished: bool,
}

impl InForce {
    /// Takes subnets whose objects were deleted by force, as an earlier process has recorded them.
    pub fn restore(&mut self, subnets: Vec<EffectiveSubnet>) {
        let kept = |subnet: EffectiveSubnet| (subnet.name.clone(), Kept { uid: String::new(), subnet, vanished: true });
        self.0.extend(subnets.into_iter().map(kept));
    }

    /// Takes an object that exists. Returns whether something else is in force now.
    pub fn applied(&mut self, name: &str, object: Object) -> bool {
        let kept = self.0.get_mut(name);
        match (object.status, kept) {
            (Ok(Some(subnet)), kept) => {
                let changed = kept.is_none_or(|kept| kept.subnet != subnet);
                self.0.insert(name.to_owned(), Kept { uid: object.uid, subnet, vanished: false });
                changed
            }
            // Another object of this name has taken the place of the one that was in force, and nothing of it is yet.
            (_, Some(kept)) if kept.vanished || kept.uid != object.uid => {
                kept.vanished = true;
                false
            }
            (Ok(None), Some(_)) => self.0.remove(name).is_some(),
            (_, None) | (Err(_), Some(_)) => false,
        }
    }

    /// Takes the last state of an object that was deleted. Returns whether something else is in force now.
    pub fn deleted(&mut self, name: &str, last: Object) -> bool {
        let changed = self.applied(name, last);
        self.vanish(name);
        changed
    }

    /// Takes all objects that exist. Returns whether something else is in force now.
    pub fn listed(&mut self, objects: BTreeMap<String, Object>) -> bool {
        let missing: Vec<_> = self.0.keys().filter(|name| !objects.contains_key(*name)).cloned().collect();
        for name in &missing {
            self.vanish(name);
        }
        objects.into_iter().fold(false, |changed, (name, object)| self.applied(&name, object) || changed)
    }

    /// Drops a subnet whose object was deleted by force, because no IP object names it. Returns whether it was in force.
    pub fn unused(&mut self, name: &str) -> bool {
        let vanished = self.0.get(name).is_some_and(|kept| kept.vanished);
        vanished && self.0.remove(name).is_some()
    }

    /// The subnets whose objects were deleted by force.
    pub fn vanished(&self) -> BTreeMap<String, EffectiveSubnet> {
        let vanished = self.0.iter().filter(|(_, kept)| kept.vanished);
        vanished.map(|(name, kept)| (name.clone(), kept.subnet.clone())).collect()
    }

    /// All subnets in force, by name.
    pub fn subnets(&self) -> BTreeMap<String, EffectiveSubnet> {
        self.0.iter().map(|(name, kept)| (name.clone(), kept.subnet.clone())).collect()
    }

    fn vanish(&mut self, name: &str) {
        if let Some(kept) = self.0.get_mut(name) {
            kept.vanished = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn subnet(cidr: &str) -> EffectiveSubnet {
        EffectiveSubnet {
            name: "net".to_owned(),
            cidrs: cidr.parse().unwrap(),
            gateway: "10.1.0.1".parse().unwrap(),
            nat_outgoing: true,
            nat_rules: Vec::new(),
            nat_sources: Vec::new(),
            mtu: None,
            private: false,
            node_network: None,
            nodes: BTreeSet::new(),
        }
    }

    fn object(uid: &str, status: Status) -> Object {
        Object { uid: uid.to_owned(), status }
    }

    fn in_force(uid: &str) -> Object {
        object(uid, Ok(Some(subnet("10.1.0.0/24"))))
    }

    fn nothing(uid: &str) -> Object {
        object(uid, Ok(None))
    }

    fn unreadable(uid: &str) -> Object {
        object(uid, Err(FieldError::new("subnet net", "status.inForce.networks", "odd")))
    }

    /// Returns the networks in force, and `?` after those of vanished objects.
    fn shown(state: &InForce) -> String {
        let shown = |(name, kept): (&String, &Kept)| {
            format!("{name} {}{}", kept.subnet.cidrs, if kept.vanished { "?" } else { "" })
        };
        state.0.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn after(steps: impl FnOnce(&mut InForce)) -> String {
        let mut state = InForce::default();
        state.applied("net", in_force("a"));
        steps(&mut state);
        shown(&state)
    }

    #[test]
    fn only_a_status_brings_a_subnet_into_force() {
        let mut state = InForce::default();
        assert!(!state.applied("net", nothing("a")) && !state.applied("net", unreadable("a")));
        assert_eq!(shown(&state), "");
        assert!(state.applied("net", in_force("a")));
        assert!(!state.applied("net", in_force("a")), "nothing has changed");
        assert!(!state.applied("net", unreadable("a")), "what was in force stays");
        assert!(state.applied("net", object("a", Ok(Some(subnet("10.1.0.0/16"))))));
        assert_eq!(shown(&state), "net 10.1.0.0/16");
        assert!(state.applied("net", nothing("a")), "a proper deletion");
        assert!(!state.deleted("net", nothing("a")));
        assert_eq!(shown(&state), "");
    }

    #[test]
    fn a_subnet_deleted_by_force_stays_in_force() {
        assert_eq!(after(|state| assert!(!state.deleted("net", in_force("a")))), "net 10.1.0.0/24?");
        assert_eq!(after(|state| assert!(!state.deleted("net", unreadable("a")))), "net 10.1.0.0/24?");
        assert_eq!(after(|state| assert!(!state.listed(BTreeMap::new()))), "net 10.1.0.0/24?");
        let last = object("a", Ok(Some(subnet("10.1.0.0/16"))));
        assert_eq!(after(|state| assert!(state.deleted("net", last))), "net 10.1.0.0/16?");
        assert_eq!(after(|state| assert!(state.deleted("net", nothing("a")))), "", "its end was seen only now");
        let gone = |state: &mut InForce| {
            state.listed(BTreeMap::new());
            assert_eq!(state.vanished().keys().collect::<Vec<_>>(), ["net"]);
            assert!(state.unused("net"));
        };
        assert_eq!(after(gone), "");
        assert_eq!(after(|state| assert!(!state.unused("net"))), "net 10.1.0.0/24", "its object is there");
    }

    #[test]
    fn what_an_earlier_process_recorded_stays_until_an_object_says_what_is_in_force() {
        let restored = |step: fn(&mut InForce)| {
            let mut state = InForce::default();
            state.restore(vec![subnet("10.1.0.0/24")]);
            step(&mut state);
            shown(&state)
        };
        assert_eq!(restored(|state| assert!(!state.listed(BTreeMap::new()))), "net 10.1.0.0/24?");
        assert_eq!(restored(|state| assert!(!state.applied("net", nothing("b")))), "net 10.1.0.0/24?");
        assert_eq!(restored(|state| assert!(!state.applied("net", in_force("b")))), "net 10.1.0.0/24");
        assert_eq!(restored(|state| assert!(state.unused("net"))), "");
    }

    #[test]
    fn only_a_status_of_its_own_replaces_what_was_in_force() {
        let listed = |object: Object| [("net".to_owned(), object)].into();
        for again in [nothing as fn(&str) -> Object, unreadable] {
            let reappears = |state: &mut InForce| {
                state.deleted("net", in_force("a"));
                assert!(!state.applied("net", again("b")));
            };
            assert_eq!(after(reappears), "net 10.1.0.0/24?");
            assert_eq!(after(|state| assert!(!state.listed(listed(again("b"))))), "net 10.1.0.0/24?");
            let is_deleted_again = |state: &mut InForce| {
                state.deleted("net", in_force("a"));
                state.applied("net", again("b"));
                assert!(!state.deleted("net", again("b")));
            };
            assert_eq!(after(is_deleted_again), "net 10.1.0.0/24?");
        }
        let accepted = |state: &mut InForce| {
            state.deleted("net", in_force("a"));
            assert!(!state.applied("net", in_force("b")), "the same is in force");
            assert!(state.vanished().is_empty());
            assert!(state.applied("net", nothing("b")));
        };
        assert_eq!(after(accepted), "");
    }
}
