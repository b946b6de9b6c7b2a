//! A node whose chassis has another name than before: its disk was lost, or its state directory.
//!
//! The southbound database takes a tunnel address once, and the chassis before still has the node's. So ovn-controller could
//! not register the new chassis, and tried without end. The agent gives it another address until the controller has removed
//! the chassis before, and tells the controller which one that is. The node's annotation shows when that is done.

use std::fmt::{self, Display, Formatter};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

/// The key of `external_ids` with the name of the chassis that has got the node's tunnel address.
pub(super) const REGISTERED: &str = "kube-ovn-registered";

/// The name of a chassis that still has the node's tunnel address. It is displayed as the message for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replaced(pub(super) String);

impl Display for Replaced {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the node has a new chassis: the controller removes the one before, {}", self.0)
    }
}

/// Returns the chassis that the one with the name `id` replaces. `annotated` is the one that the controller has seen last.
/// `registered` has had the tunnel address in this Open vSwitch: an annotation that is changed later means nothing.
pub(super) fn replaced(id: &str, annotated: Option<&str>, registered: Option<&str>) -> Option<Replaced> {
    let is_new = !id.is_empty() && registered != Some(id);
    annotated.filter(|annotated| is_new && *annotated != id).map(|before| Replaced(before.to_owned()))
}

/// Returns an address that the new chassis has for moments, and no other one.
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
    fn only_a_chassis_that_was_never_registered_replaces_another_one() {
        let old = Some(Replaced("old".to_owned()));
        assert_eq!(replaced("new", Some("old"), None), old);
        assert_eq!(replaced("new", Some("old"), Some("old")), old);
        assert_eq!(replaced("new", None, None), None, "a new node");
        assert_eq!(replaced("new", Some("new"), None), None, "the one before is gone");
        assert_eq!(replaced("own", Some("edited"), Some("own")), None, "somebody has edited the annotation");
        assert_eq!(replaced("", Some("old"), None), None, "ovs-ovn has not named it yet");
    }

    #[test]
    fn the_message_names_the_chassis_before() {
        assert_eq!(
            Replaced("old".to_owned()).to_string(),
            "the node has a new chassis: the controller removes the one before, old"
        );
    }

    #[test]
    fn each_chassis_has_a_stand_in_of_its_own() {
        let (one, two) = (stand_in("f63c9655-17dc"), stand_in("f63c9655-17dd"));
        assert!(one.is_loopback() && one != two);
    }
}
