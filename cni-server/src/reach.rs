//! Whether the router of the pod network answers through `ovn0`.
//!
//! `ovn0` can have its addresses and routes long before ovn-controller has written the flows behind it. So the node is ready,
//! and the controller says that its network is available, only when the router has answered.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::allocation;
use crate::node_port::{DEVICE, STARTING};
use crate::ping;
use crate::seen::{Cluster, publish};

/// How often the router is asked although nothing has changed.
const RECHECK: Duration = Duration::from_mins(1);

/// The shortest and the longest pause before it is asked again after it did not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The uid of the Node or the external host for which the router answers, or why it does not.
pub type Answer = Result<String, Reason>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The router was not asked yet. What an earlier process has reported still holds.
    NotAsked,
    /// It was, or cannot be.
    Because(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAsked => f.write_str(STARTING),
            Self::Because(why) => f.write_str(why),
        }
    }
}

/// What is asked, and who wants to know.
#[derive(Debug)]
pub struct Reach {
    /// The name of the node or of the external host.
    pub name: String,
    /// The node's address, and the router's.
    pub cluster: Cluster,
    /// Whether `ovn0` has its addresses and routes, or why not.
    pub ovn0: watch::Receiver<Result<(), String>>,
    /// The answer.
    pub answer: watch::Sender<Answer>,
}

impl Reach {
    /// Asks again and again, and publishes the answer. Ends when the last receiver is dropped.
    pub async fn run(mut self) {
        let mut pause = RETRY.0;
        loop {
            // The sender lives as long as the process.
            let _ = self.ovn0.wait_for(|ovn0| ovn0.as_ref().err().is_none_or(|why| why != STARTING)).await;
            let found = self.ask().await.map_err(Reason::Because);
            let again = if found.is_ok() { RECHECK } else { pause };
            pause = if found.is_ok() { RETRY.0 } else { (pause * 2).min(RETRY.1) };
            publish(&self.answer, found);
            tokio::select! {
                () = tokio::time::sleep(again) => {}
                Ok(()) = self.ovn0.changed() => pause = RETRY.0,
                () = self.answer.closed() => return,
            }
        }
    }

    async fn ask(&mut self) -> Result<String, String> {
        self.ovn0.borrow_and_update().clone()?;
        let (uid, routers) = self.routers()?;
        for router in routers {
            if !ping::answers(DEVICE, router, ping::SMALL).await? {
                return Err(format!(
                    "the router does not answer at {router} through {DEVICE}: does ovn-controller work?"
                ));
            }
        }
        Ok(uid)
    }

    /// Returns the uid of the node, and the router's addresses on the subnet of `ovn0`, of the families that the node has.
    fn routers(&self) -> Result<(String, Vec<IpAddr>), String> {
        let Cluster { node, leases, subnets, .. } = &self.cluster;
        let uid = node.borrow().objects.get(&self.name).map(|node| node.uid.clone()).unwrap_or_default();
        let net = allocation::find(&leases.borrow(), &subnets.borrow(), &api::node_port(&self.name), &uid);
        let net = net.map_err(|why| why.to_string())?;
        Ok((uid, net.addresses().map(|(_, router)| router).collect()))
    }
}
