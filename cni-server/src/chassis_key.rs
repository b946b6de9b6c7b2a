//! The key of the node's chassis, with which ovn-controller and the agent connect to the southbound database.

use keys::{Identity, Keys, Readiness, Requester, Role};
use tokio::sync::watch;

use crate::ovs::Ovs;

/// The key in `external_ids` of the chassis' name.
const NAME: &str = "system-id";

/// Why there is no key before that.
const NO_NAME: &str = "ovs-ovn has not named the node's chassis yet";

/// The directory of the key beside the node's database, where `ovs-ovn` has ovn-controller look for it.
pub const DIRECTORY: &str = "/etc/openvswitch/keys";

/// Keeps the key of this node or external host in a directory, for as long as the process runs. `namespace` is that of
/// ovn-central. Returns whether there is one, or why not, at any time.
pub fn keep(client: &kube::Client, namespace: &str, name: &str, ovs: &Ovs, keys: Keys) -> watch::Receiver<Readiness> {
    let (sender, receiver) = watch::channel(Err(NO_NAME.to_owned()));
    let (client, namespace, holder, ovs) = (client.clone(), namespace.to_owned(), name.to_owned(), ovs.clone());
    tokio::spawn(async move {
        let mut changed = ovs.changed();
        loop {
            // ovs-ovn names the chassis.
            let Some(name) = ovs.external_id(NAME).filter(|name| !name.is_empty()) else {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let identity = Identity::new(Role::Chassis, &name);
            let requester = Requester::new(&client, &namespace, identity, Some(&holder), keys.clone());
            let mut ready = requester.ready();
            let publish = async {
                loop {
                    let now = ready.borrow_and_update().clone();
                    drop(sender.send_replace(now.map_err(|why| format!("the key of the chassis: {why}"))));
                    if ready.changed().await.is_err() {
                        return;
                    }
                }
            };
            let renamed = async {
                while ovs.external_id(NAME).is_none_or(|now| now.is_empty() || now == name) {
                    if changed.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            tokio::select! {
                never = requester.run() => match never {},
                () = publish => return,
                () = renamed => tracing::info!(before = name, "the chassis has another name, and needs another key"),
            }
            drop(sender.send_replace(Err(NO_NAME.to_owned())));
        }
    });
    receiver
}
