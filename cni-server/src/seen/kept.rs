//! The record of subnets whose objects were deleted by force: a key in `external_ids` of the node's Open vSwitch. With it,
//! a restart of the agent forgets none of them.

use std::collections::BTreeMap;

use api::{EffectiveSubnet, InForce};
use tokio::sync::watch;

use crate::ovs::Ovs;

/// The key. Its value is a JSON object: what is in force, by the name of the subnet.
const KEY: &str = "kube-ovn-kept-subnets";

/// Reads the record, after waiting for Open vSwitch. An entry that is not readable is left out.
pub(super) async fn read(ovs: &Ovs) -> Vec<EffectiveSubnet> {
    ovs.settings_known().await;
    let text = ovs.external_id(KEY).unwrap_or_default();
    let (subnets, errors) = parse(&text);
    for error in errors {
        tracing::warn!(key = KEY, error, "a record of a subnet that was deleted by force is not readable");
    }
    subnets
}

/// Keeps the record until the sender is gone.
pub(super) async fn write(ovs: Ovs, mut kept: watch::Receiver<BTreeMap<String, EffectiveSubnet>>) {
    let mut changed = ovs.changed();
    loop {
        let text = print(&kept.borrow_and_update());
        if let Err(error) = ovs.record(KEY, text.as_deref()).await {
            tracing::warn!(key = KEY, %error, "subnets that were deleted by force are not recorded; trying again");
        }
        tokio::select! {
            kept = kept.changed() => if kept.is_err() { return },
            // Open vSwitch is back, or somebody else has changed the record.
            ovs = changed.changed() => if ovs.is_err() { return },
        }
    }
}

fn print(subnets: &BTreeMap<String, EffectiveSubnet>) -> Option<String> {
    let all: BTreeMap<&str, InForce> = subnets.iter().map(|(name, subnet)| (name.as_str(), subnet.into())).collect();
    // Maps with names as keys and plain values can always be printed.
    (!all.is_empty()).then(|| serde_json::to_string(&all).unwrap_or_default())
}

fn parse(text: &str) -> (Vec<EffectiveSubnet>, Vec<String>) {
    if text.is_empty() {
        return Default::default();
    }
    let all: BTreeMap<String, InForce> = match serde_json::from_str(text) {
        Ok(all) => all,
        Err(error) => return (Vec::new(), vec![error.to_string()]),
    };
    let (mut subnets, mut errors) = (Vec::new(), Vec::new());
    for (name, in_force) in all {
        match in_force.effective(&name) {
            Ok(subnet) => subnets.push(subnet),
            Err(error) => errors.push(error.to_string()),
        }
    }
    (subnets, errors)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_bad_entry_spoils_no_other() {
        let subnet = EffectiveSubnet {
            name: "net".to_owned(),
            cidrs: "10.1.0.0/24,fd00:1::/64".parse().unwrap(),
            gateway: "10.1.0.1,fd00:1::1".parse().unwrap(),
            nat_outgoing: true,
            mtu: Some(1300),
            nodes: BTreeSet::new(),
        };
        let text = print(&[("net".to_owned(), subnet.clone())].into()).unwrap();
        assert_eq!(parse(&text), (vec![subnet.clone()], vec![]));
        let text = text.replace("{\"net\"", r#"{"bad":{"networks":[{"cidr":"10.0.0.0/99"}]},"net""#);
        let (subnets, errors) = parse(&text);
        assert_eq!((subnets, errors.len()), (vec![subnet], 1));
        assert_eq!(parse("{").1.len(), 1);
        assert_eq!((print(&BTreeMap::new()), parse("")), (None, (vec![], vec![])));
    }
}
