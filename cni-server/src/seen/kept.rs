//! The record of subnets whose objects were deleted by force: a key in `external_ids` of the node's Open vSwitch. With it,
//! a restart of the agent forgets none of them.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{EffectiveSubnet, InForce};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::ovs::Ovs;

/// The key. Its value is a JSON object: what is in force, by the name of the subnet.
const KEY: &str = "kube-ovn-kept-subnets";

/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The readable entries, and those that are not, which stay as they are.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The readable entries.
    pub(super) subnets: Vec<EffectiveSubnet>,
    /// The others.
    odd: BTreeMap<String, Value>,
}

/// Reads the record, after waiting for Open vSwitch.
pub(super) async fn read(ovs: &Ovs) -> Record {
    ovs.settings_known().await;
    let (record, errors) = parse(&ovs.external_id(KEY).unwrap_or_default());
    for error in errors {
        tracing::warn!(key = KEY, error, "a record of a subnet that was deleted by force is not readable");
    }
    record
}

/// Keeps the record until the sender is gone. Entries that were not readable stay.
pub(super) async fn write(
    ovs: Ovs,
    odd: BTreeMap<String, Value>,
    mut kept: watch::Receiver<BTreeMap<String, EffectiveSubnet>>,
) {
    let mut changed = ovs.changed();
    loop {
        let text = print(&kept.borrow_and_update(), &odd);
        let written = ovs.record(KEY, text.as_deref()).await;
        if let Err(error) = &written {
            tracing::warn!(key = KEY, %error, "subnets that were deleted by force are not recorded; trying again");
        }
        tokio::select! {
            kept = kept.changed() => if kept.is_err() { return },
            // Open vSwitch is back, or somebody else has changed the record.
            ovs = changed.changed() => if ovs.is_err() { return },
            () = tokio::time::sleep(RETRY), if written.is_err() => {}
        }
    }
}

fn print(subnets: &BTreeMap<String, EffectiveSubnet>, odd: &BTreeMap<String, Value>) -> Option<String> {
    let known = subnets.iter().map(|(name, subnet)| (name.clone(), json!(InForce::from(subnet))));
    let all: BTreeMap<String, Value> = odd.clone().into_iter().chain(known).collect();
    (!all.is_empty()).then(|| json!(all).to_string())
}

fn parse(text: &str) -> (Record, Vec<String>) {
    let (mut record, mut errors) = (Record::default(), Vec::new());
    if text.is_empty() {
        return (record, errors);
    }
    let all: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_else(|error| {
        errors.push(error.to_string());
        BTreeMap::new()
    });
    for (name, value) in all {
        let in_force = serde_json::from_value::<InForce>(value.clone()).map_err(|error| error.to_string());
        match in_force.and_then(|in_force| in_force.effective(&name).map_err(|error| error.to_string())) {
            Ok(subnet) => record.subnets.push(subnet),
            Err(error) => {
                errors.push(error);
                record.odd.insert(name, value);
            }
        }
    }
    (record, errors)
}

impl Record {
    /// Takes the entries that are not readable.
    pub(super) fn take_odd(&mut self) -> BTreeMap<String, Value> {
        std::mem::take(&mut self.odd)
    }
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
            nat_rules: Vec::new(),
            nat_sources: Vec::new(),
            mtu: Some(1300),
            private: false,
            node_network: None,
            nodes: BTreeSet::new(),
        };
        let subnets: BTreeMap<String, EffectiveSubnet> = [("net".to_owned(), subnet.clone())].into();
        let text = print(&subnets, &BTreeMap::new()).unwrap();
        assert_eq!(parse(&text), (Record { subnets: vec![subnet.clone()], ..Record::default() }, vec![]));
        let text = text.replace("{\"net\"", r#"{"bad":{"networks":[{"cidr":"10.0.0.0/99"}]},"net""#);
        let (mut record, errors) = parse(&text);
        assert_eq!((&record.subnets, errors.len()), (&vec![subnet], 1));
        assert!(
            print(&subnets, &record.take_odd()).unwrap().contains(r#""bad":{"networks":[{"cidr":"10.0.0.0/99"}]}"#)
        );
        assert_eq!(parse("{").1.len(), 1);
        assert_eq!((print(&BTreeMap::new(), &BTreeMap::new()), parse("")), (None, (Record::default(), vec![])));
    }
}
