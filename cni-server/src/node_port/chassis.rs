//! A node whose chassis has another name than before: its disk was lost, or its state directory.
//!
//! The southbound database takes a tunnel address once, and the chassis before still has the node's. So ovn-controller could
//! not register the new chassis, and tried without end. The agent gives it another address until the controller has removed
//! the chassis before, and tells the controller which one that is. The node's annotation shows when that is done.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

/// The key of `external_ids` with the name of the chassis that has got the node's tunnel address.
pub(super) const REGISTERED: &str = "kube-ovn-registered";

/// Returns the chassis that the one with the name `id` replaces. `annotated` is the one that the controller has seen last.
/// `registered` has had the tunnel address in this Open vSwitch: an annotation that is changed later means nothing.
pub(super) fn replaced(id: &str, annotated: Option<&str>, registered: Option<&str>) -> Option<String> {
    let is_new = !id.is_empty() && registered != Some(id);
    annotated.filter(|annotated| is_new && *annotated != id).map(str::to_owned)
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
        assert_eq!(replaced("new", Some("old"), None).as_deref(), Some("old"));
        assert_eq!(replaced("new", Some("old"), Some("old")).as_deref(), Some("old"));
        assert_eq!(replaced("new", None, None), None, "a new node");
        assert_eq!(replaced("new", Some("new"), None), None, "the one before is gone");
        assert_eq!(replaced("own", Some("edited"), Some("own")), None, "somebody has edited the annotation");
        assert_eq!(replaced("", Some("old"), None), None, "ovs-ovn has not named it yet");
    }

    #[test]
    fn each_chassis_has_a_stand_in_of_its_own() {
        let (one, two) = (stand_in("f63c9655-17dc"), stand_in("f63c9655-17dd"));
        assert!(one.is_loopback() && one != two);
    }
}
