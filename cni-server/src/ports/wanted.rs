//! What the rows of pods' ports should say: the `external_ids` that ADD wrote. `iface-id` decides whose traffic a port
//! carries, and the others say which container must be detached.

use std::collections::{BTreeMap, BTreeSet};

use cni_wire::rpc::Attachment;
use links::Link;
use ovn::local::Interface;

use super::host_ends::is_host_end;
use crate::attach::{Attacher, Label, host_ifname};

/// The `external_ids` of each port whose row had them in the last comparison, by device. A change of the database costs a
/// look at the rows of this node, and one question to the kernel for each row that is not as it was.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    known: BTreeMap<String, BTreeMap<String, String>>,
    /// Devices of which nothing is known: they have no label, or their pod is gone.
    unknown: BTreeSet<String>,
}

impl Wanted {
    /// Compares everything with the kernel next time.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns the attachments of running pods whose rows are not as they should be, or are gone.
    pub(super) async fn compare(&mut self, attacher: &Attacher) -> Vec<Attachment> {
        if !*attacher.ovs.connected().borrow() {
            return Vec::new();
        }
        let mut different = Vec::new();
        for device in self.suspects(attacher) {
            // A link counts as unknown if the kernel does not answer.
            let link = attacher.links.find(&device).await.ok().flatten();
            let Some(attachment) = link.and_then(|link| attachment(&link, attacher)) else {
                self.unknown.insert(device);
                continue;
            };
            match attacher.port_of(&attachment) {
                Some(wanted) if attacher.ovs.read(|replica| wanted.is_in(replica)) => {
                    self.known.insert(device, wanted.external_ids());
                }
                Some(_) => different.push(attachment),
                None => {}
            }
        }
        different
    }

    /// Returns the devices whose rows are not as they were, and forgets what they were.
    fn suspects(&mut self, attacher: &Attacher) -> BTreeSet<String> {
        attacher.ovs.read(|replica| {
            let row = |device: &String| Interface::find(replica, device);
            let is_other = |device: &String, ids: &mut _| !row(device).is_some_and(|row| row.has_external_ids(ids));
            let changed: BTreeSet<String> = self.known.extract_if(.., is_other).map(|(device, _)| device).collect();
            self.unknown.retain(|device| row(device).is_some());
            let is_new =
                |name: &&str| is_host_end(name) && !self.known.contains_key(*name) && !self.unknown.contains(*name);
            let new = Interface::all(replica).filter_map(|row| row.name()).filter(is_new);
            new.map(str::to_owned).chain(changed).collect()
        })
    }
}

/// Returns the attachment of a host end, if its pod exists.
fn attachment(link: &Link, attacher: &Attacher) -> Option<Attachment> {
    let label = Label::parse(&link.alias).filter(|label| host_ifname(&label.container_id) == link.name)?;
    label.attachment(&attacher.pods.borrow())
}
