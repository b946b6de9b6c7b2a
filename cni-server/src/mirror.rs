//! `mirror0`: a device with copies of the packets of this node's pods, for `tcpdump -i mirror0`.
//!
//! The device is a port of the integration bridge, and a mirror of the bridge ([`NAME`]) sends it the copies. One task owns
//! the device and the mirror. ADD selects the port of a pod that is mirrored in the transaction that adds it, so that the
//! pod's first packet is copied; the task selects the others and corrects what differs, when a pod, the node, the database
//! or the device changes.
//!
//! The copies go into the device, and so the kernel would take them for packets that this node has received. It must ignore
//! them: a pod could otherwise reach the node past its own rules. IPv6 and ARP are switched off for the device, and a rule
//! drops IPv4 ([`crate::rules`]); the device stays down until the rules are written.

mod chosen;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use links::{Event, LinkError, Links, concerns_link};
use ovn::local::NewPort;
use tokio::sync::watch;

use crate::ovs::{Ovs, OvsError};

pub use chosen::Chosen;

/// The name of the mirror, as in kube-ovn.
pub const NAME: &str = "m0";

/// The MTU of the device in bytes. Longer packets are not copied, so it is the largest that an internal port can have on
/// both datapaths.
const MTU: u32 = 65_500;

/// The shortest and the longest pause before a failure is tried again: not every cause of one is announced.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the owner of the mirror needs.
#[derive(Debug)]
pub struct Mirror {
    /// The name of the device.
    pub device: String,
    /// The node's Open vSwitch.
    pub ovs: Ovs,
    /// The node's links.
    pub links: Links,
    /// Whose packets are copied.
    pub chosen: Chosen,
    /// Whether the firewall rules are written.
    pub rules: watch::Receiver<Result<(), String>>,
}

/// Why nothing is copied.
#[derive(Debug, thiserror::Error)]
enum MirrorError {
    #[error(transparent)]
    Ovs(#[from] OvsError),
    #[error("{device} is not there: {why}")]
    NoDevice { device: String, why: String },
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the firewall rules are not written: {0}")]
    Rules(String),
}

impl Mirror {
    /// Starts the owner. It publishes whether the mirror is as it should be, or why not, and ends when the last receiver is
    /// dropped.
    pub fn spawn(self) -> std::io::Result<watch::Receiver<Result<(), String>>> {
        let events = links::events()?;
        let (sender, receiver) = watch::channel(Err("starting".to_owned()));
        tokio::spawn(self.run(events, sender));
        Ok(receiver)
    }

    async fn run(
        mut self,
        mut events: impl futures::Stream<Item = Event> + Unpin,
        sender: watch::Sender<Result<(), String>>,
    ) {
        let mut changed = self.ovs.changed();
        let mut pause = RETRY.0;
        loop {
            let result = self.reconcile().await;
            let index = result.as_ref().ok().copied();
            pause = if index.is_some() { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            let now = result.map(drop).map_err(|error| error.to_string());
            sender.send_if_modified(|before| {
                let differs = *before != now;
                if differs && let Err(why) = &now {
                    tracing::warn!(device = self.device, why, "pods are not mirrored");
                }
                *before = now;
                differs
            });
            let again = tokio::time::sleep(pause);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again, if index.is_none() => break,
                    () = sender.closed() => return,
                    Ok(()) = changed.changed() => break,
                    Ok(()) = self.rules.changed() => break,
                    () = self.chosen.changed() => break,
                    Some(event) = events.next() => {
                        if index.is_none_or(|index| concerns_link(&event, index)) {
                            break;
                        }
                    }
                }
            }
            links::skip_arrived(&mut events);
        }
    }

    /// Runs one pass. Returns the index of the device.
    async fn reconcile(&mut self) -> Result<u32, MirrorError> {
        let rules = self.rules.borrow_and_update().clone();
        if self.ovs.own_port(&self.port()).await? {
            tracing::info!(device = self.device, "wrote the mirror's device to the bridge");
        }
        self.ovs.mirror(&self.device, &self.chosen).await?;
        let no_device = || MirrorError::NoDevice { device: self.device.clone(), why: self.ovs.explain(&self.device) };
        let link = self.links.find(&self.device).await?.ok_or_else(no_device)?;
        self.links.ignore(&link).await?;
        if !link.up {
            rules.map_err(MirrorError::Rules)?;
            self.links.set_up(&link).await?;
        }
        Ok(link.index)
    }

    fn port(&self) -> NewPort {
        NewPort {
            name: self.device.clone(),
            seed: NAME.to_owned(),
            kind: "internal",
            mac: None,
            mtu: Some(MTU),
            external_ids: BTreeMap::from([(ovn::VENDOR.0.to_owned(), ovn::VENDOR.1.to_owned())]),
        }
    }
}
